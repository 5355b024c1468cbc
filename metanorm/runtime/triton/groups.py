"""The rows of each group: where they begin in an order that sorts them."""

from __future__ import annotations

import weakref

import torch
from torch import Tensor

REMEMBERED = 8  # indices; a batch of graphs comes to every layer of a network

Rows = tuple[Tensor, "Tensor | None"]

_found: list[tuple[weakref.ref[Tensor], int, int, Rows]] = []


def rows_of_groups(index: Tensor | None, count: int, length: int, device: torch.device) -> Rows:
    """Where the rows of each group start, one place more than there are groups, and the order of
    rows in which that holds; `None` for their own. It is found once for an index."""
    if index is None:
        return torch.tensor([0, length], device=device), None
    for kept, version, groups, rows in _found:
        if kept() is index and version == index._version and groups == count:
            return rows
    index = index.contiguous()
    order: Tensor | None = None
    ordered = index
    if not bool((index[1:] >= index[:-1]).all()):
        ordered, order = torch.sort(index, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=index.device))
    rows = (starts, order)
    _found.append((weakref.ref(index), index._version, count, rows))
    del _found[:-REMEMBERED]
    return rows
