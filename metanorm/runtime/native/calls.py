"""Calls of kernels: everything that a layout decides is found once, and kept for the next call."""

from __future__ import annotations

import ctypes
import hashlib
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.layout import STREAMED, TYPES
from metanorm.runtime.kernels.reading import Place, Reading, Span, known_number
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.table import Entry, Field
from metanorm.runtime.native.build import load
from metanorm.runtime.native.machine import last_level_cache
from metanorm.runtime.tensors import LOW, demand_memory

# What a build defines for each type that kernels compute in.
PRECISIONS: Mapping[torch.dtype, Mapping[str, str]] = {
    torch.float32: {},
    torch.float64: {"METANORM_DOUBLE": "1"},
}


def defines(names: str, real: torch.dtype, dtypes: Mapping[str, torch.dtype]) -> dict[str, str]:
    """What a build of the kernel that a table has these names of defines, for arithmetic of this
    type, and where values are rounded to the `dtypes` of some tensors."""
    followed = {f"DTYPE_{name}": str(TYPES[dtype]) for name, dtype in dtypes.items()}
    return {**dict.fromkeys(names.split(), "1"), **PRECISIONS[real], **followed}


LINE = 64  # bytes of a line of a cache
LONG = 512  # bytes of a row of which the lines that it does not fill are a small part

# What a kernel returns where it did nothing.
FAILURES: Mapping[int, Exception] = {
    1: MemoryError("no memory for the statistics of a norm"),
    2: RuntimeError("the labels of groups were changed in place after the forward call"),
}

runs = (ctypes.c_int64 * 2)()  # forward and backward kernels so far in this process, on either path

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


# A pool of threads does not live on in a child; the kernels of one work alone, as torch's do in
# the workers of a DataLoader.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a kernel may use."""
    return 1 if _forked else torch.get_num_threads()


@dataclass(frozen=True)
class Measure:
    """A word of a call that lengths and strides decide: the elements of a span (`size`), the one
    stride of its dimensions (`stride`), or how many groups an index has (`count`)."""

    at: int
    kind: Literal["size", "stride", "count"]
    span: Span


@dataclass
class Prepared:
    """A call for one layout: constants in place, and where the rest goes.

    Operands are the tensors of a call in their order, in a backward call the gradients behind
    them, then the results; `pointers` has the place of each in the call, and `measures` the words
    that lengths and strides decide. `spans` says where in the tensors each dimension of the spec
    is, and `large` that some result does not fit into the caches.
    """

    function: Callable[[bytes], int]
    pack: Callable[..., bytes]
    template: list[Any]
    pointers: list[tuple[int, int]]
    momenta: list[int]
    results: list[Place]
    numbers: list[Tensor]  # that the template points to
    kept: int  # elements of what the backward call needs
    kept_at: int
    real: torch.dtype
    library: ctypes.CDLL
    measures: list[Measure]
    spans: dict[str, list[Span]]
    large: bool


def run(
    prepared: Prepared, operands: Sequence[Tensor | None], momenta: Sequence[float],
    results: Sequence[Tensor], kept: Tensor | None,
) -> None:  # fmt: skip
    """One call of a kernel.

    Raises `Unfit` for a tensor without memory, `MemoryError` where there is none for the
    statistics, and `RuntimeError` where labels are no longer what they were, or the memory of a
    tensor was freed.
    """
    filled = prepared.template.copy()
    filled[0] = threads()
    for at, number in prepared.pointers:
        operand = operands[number]
        if operand is not None:
            filled[at] = address = operand.data_ptr()
            if address < LOW:
                demand_memory(operand)
                if not address:
                    raise Unfit("a tensor without memory")
    for place, result in zip(prepared.results, results):
        filled[place.at] = result.data_ptr()
    for at, momentum in zip(prepared.momenta, momenta):
        filled[at] = momentum
    if kept is not None:
        filled[prepared.kept_at] = kept.data_ptr()
    outcome = prepared.function(prepared.pack(*filled))
    if outcome:
        raise FAILURES[outcome]


def kernel_name(function: str, *, backward: bool) -> str:
    """What profilers call the kernel of a norm's function in one direction."""
    return f"metanorm::{function}{'_backward' if backward else ''}"


class Library:
    """The kernels of a C file, each loaded once. Raises `CannotBuild`."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.digest = hashlib.sha256(source.encode()).hexdigest()[:8]  # by which operations tell it
        self._sections: dict[tuple[tuple[str, str], ...], ctypes.CDLL] = {}

    def section(self, defines: Mapping[str, str]) -> ctypes.CDLL:
        """The kernel of a section, for arithmetic and dtypes as these macros say."""
        library = self._sections.get(key := tuple(defines.items()))
        if library is None:
            library = load(self.source, defines)
            for exported in ("forward", "backward", "kept"):
                if hasattr(library, exported):
                    getattr(library, exported).argtypes = [ctypes.c_char_p]
            if hasattr(library, "kept"):
                library.kept.restype = ctypes.c_int64
            self._sections[key] = library
        return library


class Preparation(Reading):
    """Finds what the structure of a call holds."""

    library: Library

    def of(self, entry: Entry) -> Prepared:
        """Everything about calls of a kernel that does not change. Raises `CannotBuild`."""
        format_ = "=q"
        template: list[Any] = [1]
        pointers: list[tuple[int, int]] = []
        momenta: list[int] = []
        results: list[Place] = []
        kept_at = 0
        self.vector = self.vector_of(entry)
        self.numbers: list[Tensor] = []
        self.measures: list[Measure] = []
        self.large = False
        for field in entry.fields:
            at = len(template)
            match field.kind:
                case "size":
                    template.append(self.sizes.get(field.name, 0))
                    for span in self.spans.get(field.name, ())[:1]:
                        self.measures.append(Measure(at, "size", span))
                case "groups":
                    template.append(self.values[field.name])
                    index = self.order.get(field.name.removesuffix(".count"))
                    rows = self.table.tables.get(field.name.removesuffix(".count"))
                    if rows is not None:
                        self.measures += [
                            Measure(at, "size", s) for s in self.spans.get(rows, ())[:1]
                        ]
                    elif index is not None:
                        self.measures.append(Measure(at, "count", Span(index, 0, 0)))
                case "number":
                    template.append(known_number(self.values[field.name], self.real))
                case "momentum":
                    momenta.append(at)
                    template.append(0.0)
                case "edges":
                    pointers.append((at, self.order[field.name]))
                    ends, edges = self.table.tensors[field.name]
                    if self.sizes[ends] != 2:
                        raise Unfit("edges that are no pairs")
                    template += [0, TYPES[torch.int64], self.sizes[edges]]
                    self.measures.append(Measure(at + 2, "size", self.spans[edges][0]))
                case "saved":
                    kept_at = at
                    template.append(0)
                case _ if field.name.startswith("to."):
                    template += self._result(field, at, results)
                case _:
                    if field.name in self.order:
                        pointers.append((at, self.order[field.name]))
                    template += self._operand(field, at)
            format_ += "d" if field.kind in ("number", "momentum") else "q" * (len(template) - at)
        pack = struct.Struct(format_).pack
        dtypes = {name: self.dtype_of(name) for name in entry.dtypes}
        kernel = self.library.section(defines(entry.sections[self.vector], self.real, dtypes))
        function = kernel.forward if hasattr(kernel, "forward") else kernel.backward
        kept = kernel.kept(pack(*template)) if kept_at and hasattr(kernel, "kept") else 0
        return Prepared(
            function, pack, template, pointers, momenta, results, self.numbers,
            kept // self.real.itemsize, kept_at, self.real, kernel, self.measures, self.spans,
            self.large,
        )  # fmt: skip

    def _operand(self, field: Field, at: int) -> list[int]:
        """Pointer, type, and strides of a wide one."""
        tensor = self.values.get(field.name)
        if tensor is not None and field.kind != "wide" and not tensor.is_contiguous():
            raise Unfit("a narrow tensor that does not lie in one piece")
        kept = field.name in self.table.buffers and tensor is not None
        if kept and not tensor.is_floating_point():  # type: ignore[union-attr]
            raise Unfit("a buffer that cannot hold what is kept in it")
        if tensor is not None and field.name not in self.order:  # the same at every call
            return [tensor.data_ptr(), _type(tensor)]
        if field.kind == "wide" and tensor is None and field.name in self.table.defaults:
            return self._left_out(field.name)
        if field.kind == "wide":
            steps = self._strides(tensor, self.dims_of(field), at, self.order.get(field.name))  # type: ignore[arg-type]
            return [0, _type(tensor), *steps]
        return [0, 0 if tensor is None else _type(tensor)]

    def _left_out(self, name: str) -> list[int]:
        """Pointer, type and strides of one number, which stands for every element of an input."""
        if not set(self.table.tensors[name]) <= set(self.table.tensors[self.first]):
            raise Unfit("an input that is left out and has axes of its own")
        number = torch.tensor(self.table.defaults[name], dtype=self.real, device="cpu")
        self.numbers.append(number)
        return [number.data_ptr(), _type(number), *[0] * len(self.ranks)]

    def _result(self, field: Field, at: int, results: list[Place]) -> list[int]:
        name = field.name.removeprefix("to.")
        gradient = name.startswith("d.")
        of = self.values.get(name.removeprefix("d.")) if gradient else self.like_output(name)
        wide = field.kind == "result"
        if of is None:  # the gradient of a tensor that is not there
            return [0, 0, *[0] * (len(self.ranks) if wide else 0)]
        new, lengths = torch.empty_like(of), None
        if not gradient and (field.dims or not wide):
            if any(dim.lstrip("*") not in self.shapes for dim in field.dims):
                raise Unfit("a result with one value for each part of an axis")
            new = of.new_empty(self.shape_of(field.dims))
            lengths = self._lengths(field.dims)
        number = self.order[name[2:] if gradient else self.first]
        if self.wanted(name):
            lies = (tuple(new.shape), new.stride(), new.dtype)
            results.append(Place(at, name, number, wide, *lies, lengths))
            number = len(self.order) + len(results) - 1
        if not wide:
            return [0, _type(of)]
        large = of.dtype == self.real and 2 * of.numel() * of.element_size() > last_level_cache()
        streams = large and self._has_long_rows(of)
        self.large = self.large or large
        steps = self._strides(new, self.dims_of(field), at, number)
        return [0, STREAMED if streams else _type(of), *steps]

    def _lengths(self, dims: Sequence[str]) -> tuple[Span, ...]:
        """Where each length of a result on these dimensions is from."""
        spans = [self.spans[dim.lstrip("*")][0] for dim in dims]
        return tuple(Span(s.tensor, d, d + 1) for s in spans for d in range(s.first, s.last))

    def _strides(
        self, tensor: Tensor, dims: Sequence[str], at: int, number: int | None
    ) -> list[int]:
        """One stride for each dimension of the first input, in its order; the number of the tensor
        in the call is that of which strides are read at other lengths."""
        first = self.table.tensors[self.first]
        ranks = self.ranks
        if dims != first:
            by_dim = dict(zip(first, self.ranks))
            ranks = [by_dim[dim] for dim in dims]
        own = dict(zip(dims, layout.strides(tensor, ranks)))
        if number is not None:
            spans = self.spans_of(number, dims, ranks)
            self.measures += [
                Measure(at + 2 + place, "stride", spans[dim.lstrip("*")])
                for place, dim in enumerate(first)
            ]
        return [own[dim] for dim in first]

    def _has_long_rows(self, of: Tensor) -> bool:
        """Whether rows fill the lines of a cache that they lie in. Others would have those lines
        fetched after all, though they go past it: as the results of a call do, half of one of
        which would push out what is read again."""
        row = self.sizes.get(self.vector, 0) * of.element_size()
        return row >= LONG or (row > 0 and row % LINE == 0)


def _type(tensor: Tensor | None) -> int:
    if tensor is None or tensor.dtype not in TYPES:
        raise Unfit("a type that kernels do not know")
    return TYPES[tensor.dtype]
