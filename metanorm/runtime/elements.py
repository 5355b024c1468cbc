"""Functions of elements, and parts of a tensor."""

from __future__ import annotations

import torch
from torch import Tensor

from metanorm.runtime.arguments import demand_whole
from metanorm.runtime.errors import ShapeError


def at(x: Tensor, dim: int, position: int, axis: str) -> Tensor:
    """One position of a dimension, counted from its end where it is negative.

    Raises `ShapeError` where the axis is not that long.
    """
    if not -x.shape[dim] <= position < x.shape[dim]:
        raise ShapeError(f"axis {axis} has {x.shape[dim]} positions, and {position} is not one")
    return x.select(dim, position)


def chosen(table: Tensor, index: Tensor, name: str = "index") -> Tensor:
    """Rows of `table` (along its first dimension) in the shape of `index`; `name` is the input's.

    Raises `IndexError` for an index below zero, which would count from the end, or beyond the last,
    and `TypeError` for one that is not whole.
    """
    demand_whole(index, name)
    numbers = index.reshape(-1).long()
    if torch.compiler.is_compiling():
        rows = table.index_select(0, numbers)
    else:
        try:
            rows = table.index_select(0, numbers)
        except IndexError:
            low, high = map(int, torch.aminmax(numbers))
            raise IndexError(
                f"`{name}` has numbers from {low} to {high}, but there are {len(table)} rows to "
                f"choose from, 0 to {len(table) - 1}"
            ) from None
    return rows.reshape(index.shape + table.shape[1:])


def root(x: Tensor) -> Tensor:
    """The square root, with derivative zero at zero, where that of torch is infinite."""
    zero = x == 0
    return torch.sqrt(x.masked_fill(zero, 1)).masked_fill(zero, 0)


def maximum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The larger of two values, of which one may be a number; equal ones share the gradient."""
    return torch.maximum(*_tensors(a, b))


def minimum(a: Tensor | float, b: Tensor | float) -> Tensor:
    """The smaller of two values, of which one may be a number; equal ones share the gradient."""
    return torch.minimum(*_tensors(a, b))


def tiled(x: Tensor, times: int, dim: int) -> Tensor:
    """The tensor repeated as a whole along a dimension."""
    repeats = [1] * x.dim()
    repeats[dim] = times
    return x.repeat(repeats)


def unbiased(variance: Tensor, count: Tensor | int) -> Tensor:
    """The unbiased variance of `count` values from the biased one; unchanged for one value."""
    if isinstance(count, Tensor):
        few = count <= 1
        return variance * (count / (count - 1).masked_fill(few, 1)).masked_fill(few, 1)
    return variance * (count / (count - 1)) if count > 1 else variance


def _tensors(a: Tensor | float, b: Tensor | float) -> tuple[Tensor, Tensor]:
    """Both as tensors, in the dtype of the first that is one, on one device.

    As in torch's arithmetic, a single number may lie on the CPU beside a tensor elsewhere.
    """
    if not isinstance(a, Tensor):
        b = torch.as_tensor(b)
        return torch.as_tensor(a, dtype=b.dtype, device=b.device), b
    b = torch.as_tensor(b, dtype=a.dtype)
    if a.is_cpu and a.dim() == 0:
        return a.to(b.device), b
    return a, b.to(a.device)
