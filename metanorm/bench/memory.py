"""How much memory a call takes, counted tensor by tensor, or on a GPU by torch's allocator."""

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
    """Have the allocator keep what is freed, so that no candidate pays for fresh pages.

    Gives back whether it could be asked; that is so with glibc alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, INT_MAX) and mallopt(M_MMAP_THRESHOLD, INT_MAX))


class _PeakMemory(TorchDispatchMode):
    """Notes every storage that is made, and the most bytes that were alive at once."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive: dict[int, tuple[StorageWeakRef, int]] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        known = {a.untyped_storage()._cdata for a in args if isinstance(a, Tensor)}
        for output in result if isinstance(result, tuple) else (result,):
            if isinstance(output, Tensor):
                storage = output.untyped_storage()
                if storage._cdata not in known:
                    kept = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
                    self.alive.setdefault(storage._cdata, (kept, storage.nbytes()))
        self.alive = {key: kept for key, kept in self.alive.items() if not kept[0].expired()}  # type: ignore[no-untyped-call]
        self.most = max(self.most, sum(size for _, size in self.alive.values()))
        return result


def peak_bytes(call: Callable[[], object]) -> int:
    """The most bytes of tensors that a call makes and has alive at once."""
    watch = _PeakMemory()
    with watch:
        call()
    return watch.most


def peak_bytes_on_gpu(call: Callable[[], object]) -> int:
    """The most bytes that a call allocates on the GPU, beyond what was there before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def saved_bytes(call: Callable[[], object], inputs: list[Tensor]) -> int:
    """The bytes that a call keeps for the backward pass, beyond its inputs."""
    own = {x.untyped_storage()._cdata for x in inputs}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage._cdata not in own:
            kept[storage._cdata] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = call()
    del result
    return sum(kept.values())
