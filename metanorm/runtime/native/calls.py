"""Calls of kernels in C: what a layout decides is prepared once, for all calls with it."""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from metanorm.runtime.kernels.binding import ResultSlot, Span
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.layout import DTYPE_CODES
from metanorm.runtime.native.build import load
from metanorm.runtime.tensors import LOWEST_ADDRESS, demand_memory

# The macros of a build, by the dtype that kernels compute in.
PRECISIONS: Mapping[torch.dtype, Mapping[str, str]] = {
    torch.float32: {},
    torch.float64: {"METANORM_DOUBLE": "1"},
}


def macros(section: str, real: torch.dtype, dtypes: Mapping[str, torch.dtype]) -> dict[str, str]:
    """The macros that build the kernel of a section, which a table has as words.

    `real` is the dtype of arithmetic, `dtypes` those of tensors to which the kernel rounds.
    """
    rounded_to = {f"DTYPE_{name}": str(DTYPE_CODES[dtype]) for name, dtype in dtypes.items()}
    return {**dict.fromkeys(section.split(), "1"), **PRECISIONS[real], **rounded_to}


# The errors by the code that a kernel returns if it did nothing.
FAILURES: Mapping[int, tuple[type[Exception], str]] = {
    1: (MemoryError, "no memory for the statistics of a norm"),
    2: (RuntimeError, "the labels of groups were changed in place after the forward call"),
}


def failure_of(status: int) -> Exception:
    """A new error for a code: one that is raised again would keep the frames of all its calls."""
    error, message = FAILURES[status]
    return error(message)


runs = (ctypes.c_int64 * 2)()  # count of forward and of backward kernels of this process

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


# The thread pool of OpenMP does not survive a fork. In a child, kernels run on one thread, as
# torch's do in the workers of a DataLoader.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def num_threads() -> int:
    """How many threads a kernel may use."""
    return 1 if _forked else torch.get_num_threads()


@dataclass(frozen=True)
class LayoutWord:
    """A word of a call that the layout of a tensor decides.

    That is the number of elements of a span (`size`), the merged stride of its dimensions
    (`stride`), or the number of groups of an index (`count`).
    """

    offset: int
    kind: Literal["size", "stride", "count"]
    span: Span


@dataclass
class PreparedKernel:
    """The call of a kernel for one layout, as a sequence of 64-bit words.

    The operands of a forward call are its tensors in their order; those of a backward call are
    these tensors, then the gradients of the outputs. An offset is the position of a word.
    """

    function: Callable[[bytes], int]
    pack: Callable[..., bytes]
    template: list[Any]  # the words, with zeros for what differs from call to call
    pointers: list[tuple[int, int]]  # the offset of each pointer, and the number of its operand
    momenta: list[int]  # offsets
    results: list[ResultSlot]
    constants: list[Tensor]  # tensors that the template points to
    saved_numel: int  # numbers that are saved for the backward pass
    saved_offset: int  # of the pointer to them; 0 if there is none
    real: torch.dtype
    library: ctypes.CDLL
    layout_words: list[LayoutWord]
    spans: dict[str, list[Span]]  # of each dimension of the spec, in the tensors of the call
    exceeds_cache: bool  # whether some result does not fit into the caches


def run(
    prepared: PreparedKernel, operands: Sequence[Tensor | None], momenta: Sequence[float],
    results: Sequence[Tensor], saved: Tensor | None,
) -> None:  # fmt: skip
    """Call a kernel.

    Raises `Unsupported` for a tensor without memory, `MemoryError` if there is none for the
    statistics, and `RuntimeError` if labels were changed, or the memory of a tensor was freed.
    """
    words = prepared.template.copy()
    words[0] = num_threads()
    for offset, number in prepared.pointers:
        operand = operands[number]
        if operand is not None:
            words[offset] = address = operand.data_ptr()
            if address < LOWEST_ADDRESS:
                demand_memory(operand)
                if not address:
                    raise Unsupported("a tensor without memory")
    for slot, result in zip(prepared.results, results):
        words[slot.offset] = result.data_ptr()
    for offset, momentum in zip(prepared.momenta, momenta):
        words[offset] = momentum
    if saved is not None:
        words[prepared.saved_offset] = saved.data_ptr()
    status = prepared.function(prepared.pack(*words))
    if status:
        raise failure_of(status)


def kernel_name(function: str, *, backward: bool) -> str:
    """The name of a kernel in profiles."""
    return f"metanorm::{function}{'_backward' if backward else ''}"


class KernelLibrary:
    """The kernels of a C file, each loaded once. Raises `CannotBuild`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha256(source.encode()).hexdigest()[
            :8
        ]  # part of the names of operations
        self._sections: dict[tuple[tuple[str, str], ...], ctypes.CDLL] = {}

    def section(self, macros: Mapping[str, str]) -> ctypes.CDLL:
        """The library with the kernel that these macros choose."""
        library = self._sections.get(key := tuple(macros.items()))
        if library is None:
            library = load(self.source, macros)
            for exported in ("forward", "backward", "kept"):
                if hasattr(library, exported):
                    getattr(library, exported).argtypes = [ctypes.c_char_p]
            if hasattr(library, "kept"):
                library.kept.restype = ctypes.c_int64
            self._sections[key] = library
        return library
