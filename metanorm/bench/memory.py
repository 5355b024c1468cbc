"""The memory of a call: counted by tensor on the CPU, by the allocator of torch on a GPU."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, INT_MAX = -1, -3, 2**31 - 1  # of glibc's mallopt


def keep_freed_memory() -> bool:
    """Let the allocator keep freed memory, so that no candidate pays for fresh pages.

    Returns whether that worked, which needs glibc.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, INT_MAX) and mallopt(M_MMAP_THRESHOLD, INT_MAX))


class _PeakMemory(TorchDispatchMode):
    """Records all storages that are allocated, and the largest total size that was alive."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        input_storages = {a.untyped_storage()._cdata for a in args if isinstance(a, Tensor)}
        for output in result if isinstance(result, tuple) else (result,):
            if isinstance(output, Tensor):
                storage = output.untyped_storage()
                if storage._cdata not in input_storages:
                    reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                    self.alive.setdefault(storage._cdata, (reference, storage.nbytes()))
        self.alive = {key: ref for key, ref in self.alive.items() if not ref[0].expired()}  # type: ignore[no-untyped-call]
        self.peak = max(self.peak, sum(size for _, size in self.alive.values()))
        return result


def peak_bytes(call: Callable[[], object]) -> int:
    """The peak size in bytes of tensors that a call allocates."""
    peak_memory = _PeakMemory()
    with peak_memory:
        call()
    return peak_memory.peak


def peak_bytes_on_gpu(call: Callable[[], object]) -> int:
    """The peak size in bytes that a call allocates on the GPU."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def saved_bytes(call: Callable[[], object], inputs: list[Tensor]) -> int:
    """The bytes that a call saves for the backward pass, without its inputs."""
    input_storages = {x.untyped_storage()._cdata for x in inputs}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in input_storages:
            saved[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(saved.values())
