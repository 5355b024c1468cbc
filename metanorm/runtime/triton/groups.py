"""What kernels have to know of an index. To look makes a GPU wait, so it is looked at once."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.tensors import capturing
from metanorm.runtime.triton import driver

REMEMBERED = 8  # indices; a batch of graphs comes to every layer of a network

Rows = tuple[Tensor, "Tensor | None"]
P = ParamSpec("P")
T = TypeVar("T")
Found = Callable[Concatenate[Tensor, P], T]


def remembered(find: Found[P, T]) -> Found[P, T]:
    """The function, which looks at a tensor once for as long as nothing is written to it. What it
    has found, which may be as large as the tensor, is kept no longer than that.

    Raises `Unfit` while a CUDA graph is captured: nothing can be looked at, and what was seen
    before may not be so when the graph runs.
    """
    seen: list[tuple[weakref.ref[Tensor], tuple[Any, ...], T]] = []

    def forget(gone: weakref.ref[Tensor]) -> None:
        seen[:] = [entry for entry in seen if entry[0] is not gone]

    @functools.wraps(find)
    def look(index: Tensor, /, *args: P.args, **named: P.kwargs) -> T:
        if capturing(index.device):
            raise Unfit("an index, and a CUDA graph is captured")
        if index.is_inference():  # whose changes nobody counts
            return find(index, *args, **named)
        state = (index._version, index.data_ptr())
        for tensor, then, found in seen:
            if tensor() is index and then == (*state, args):
                return found
        found = find(index, *args, **named)
        valid = [own for own in seen if own[0]() is not index or own[1][:-1] == state]
        seen[:] = [*valid, (weakref.ref(index, forget), (*state, args), found)][-REMEMBERED:]
        return found

    return look


@remembered
def extent(index: Tensor) -> tuple[int, int]:
    """The smallest and the largest label."""
    low, high = torch.stack(torch.aminmax(index)).tolist()
    return low, high


def rows_of_groups(index: Tensor, count: int) -> Rows:
    """Where the rows of each group start, one place more than there are groups, and the order of
    rows in which that holds; `None` for their own."""
    device = index.device
    # What one stream has computed is not there for another one yet.
    return _rows(index, count, driver.stream(device) if device.type == "cuda" else 0)


@remembered
def _rows(index: Tensor, count: int, stream: int) -> Rows:
    index = index.contiguous()
    order: Tensor | None = None
    ordered = index
    if not bool((index[1:] >= index[:-1]).all()):
        ordered, order = torch.sort(index, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=index.device))
    return starts, order
