"""What kernels need of an index: computed once, since it synchronizes with the GPU."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.tensors import is_capturing
from metanorm.runtime.triton import driver

MAX_CACHED = 8  # indices; every layer of a network gets the same one

SortedRows = tuple[Tensor, "Tensor | None"]
P = ParamSpec("P")
T = TypeVar("T")
IndexFunction = Callable[Concatenate[Tensor, P], T]


def cached_by_version(find: IndexFunction[P, T]) -> IndexFunction[P, T]:
    """The function with a cache: one call for an index, until the index is written to.

    The cache holds no reference to an index. Raises `Unsupported` while a CUDA graph is captured:
    nothing can be read then, and a cached value may be wrong when the graph runs.
    """
    entries: list[tuple[weakref.ref[Tensor], tuple[Any, ...], T]] = []

    def forget(reference_gone: weakref.ref[Tensor]) -> None:
        entries[:] = [entry for entry in entries if entry[0] is not reference_gone]

    @functools.wraps(find)
    def cached(index: Tensor, /, *args: P.args, **named: P.kwargs) -> T:
        if is_capturing(index.device):
            raise Unsupported("an index, and a CUDA graph is captured")
        if index.is_inference():  # whose changes nobody counts
            return find(index, *args, **named)
        version = (index._version, index.data_ptr())
        for tensor, key, value in entries:
            if tensor() is index and key == (*version, args):
                return value
        value = find(index, *args, **named)
        valid = [entry for entry in entries if entry[0]() is not index or entry[1][:-1] == version]
        entries[:] = [*valid, (weakref.ref(index, forget), (*version, args), value)][-MAX_CACHED:]
        return value

    return cached


@cached_by_version
def label_range(index: Tensor) -> tuple[int, int]:
    """The smallest and the largest label, for which the GPU synchronizes."""
    low, high = torch.stack(torch.aminmax(index)).tolist()
    return low, high


def rows_of_groups(index: Tensor, count: int) -> SortedRows:
    """The offsets of groups among sorted rows, shape [groups + 1], and the order that sorts rows.

    The order is `None` if rows are sorted.
    """
    device = index.device
    # A value that one stream computes is not ready for another.
    return _rows(index, count, driver.stream(device) if device.type == "cuda" else 0)


@cached_by_version
def _rows(index: Tensor, count: int, stream: int) -> SortedRows:
    index = index.reshape(-1).contiguous()  # that of a table may have several dimensions
    order: Tensor | None = None
    ordered = index
    if not bool((index[1:] >= index[:-1]).all()):
        ordered, order = torch.sort(index, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=index.device))
    return starts, order
