"""Statistics over dimensions.

Thin layers over torch's reductions, with three differences: pooling over no dimension returns the
value, an empty pool gives zero instead of NaN, and elements can be excluded (`where`) or weighted
(`weight`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import torch
from torch import Tensor

from metanorm.runtime.arguments import demand_whole
from metanorm.runtime.errors import ShapeError
from metanorm.runtime.mean_and_variance import (
    Moments,
    count_of,
    plain_mean_square,
    plain_moments,
)
from metanorm.runtime.processes.counting import total_count
from metanorm.runtime.processes.process_groups import Group


def moments(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Moments:
    """Mean and biased variance over `dim`: two passes or Welford's, never E[x^2] - E[x]^2.

    `where` and `weight` broadcast against `x`.
    """
    dims = tuple(dim)
    if where is not None or weight is not None:
        x = only_counted(x, where, weight)
        pool_mean = mean(x, dims, True, where, weight)
        var = mean((x - pool_mean).square(), dims, keepdim, where, weight)
        return Moments(pool_mean if keepdim else pool_mean.squeeze(dims), var)
    if not dims:
        return Moments(x, torch.zeros_like(x))
    if x.numel() == 0:
        zero = x.sum(dims, keepdim=keepdim)
        return Moments(zero, zero)
    return plain_moments(x, dims, keepdim)


def mean(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean over `dim`."""
    dims = tuple(dim)
    if where is not None or weight is not None:
        whole = total_weight(x, coefficients(x, where, weight), dims)
        average = over(_weighted_sum(x, dims, where, weight), whole)
        return average if keepdim or not dims else average.squeeze(dims)
    if not dims:
        return x
    return (
        x.sum(dims, keepdim=keepdim) if _pools_nothing(x, dims) else x.mean(dims, keepdim=keepdim)
    )


def mean_square(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean of squares over `dim`."""
    dims = tuple(dim)
    if where is None and weight is None and dims and x.numel():
        return plain_mean_square(x, dims, keepdim)
    return mean(only_counted(x, where, weight).square(), dims, keepdim, where, weight)


@overload
def total(x: int, dim: Group = ..., /) -> int: ...


@overload
def total(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = ...,
    where: Tensor | None = ...,
    weight: Tensor | None = ...,
) -> Tensor: ...


def total(
    x: Tensor | int,
    dim: Any = None,
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor | int:
    """The sum over `dim`; of an `int`, such as the number of samples of a process, the sum over all
    processes of a group: `total(len(x), group)`."""
    if isinstance(x, int):
        return total_count(x, dim)
    dims = tuple(dim)
    if where is not None or weight is not None:
        added = _weighted_sum(x, dims, where, weight)
        return added if keepdim or not dims else added.squeeze(dims)
    return x.sum(dims, keepdim=keepdim) if dims else x


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


def count(
    like: Tensor,
    shape: tuple[int, ...],
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The total weight of all elements of a shape, in the dtype and on the device of `like`."""
    ones = like.new_ones(()).expand(shape)
    dims = tuple(range(len(shape)))
    return total_weight(ones, coefficients(ones, where, weight), dims).reshape(())


def norm(
    x: Tensor,
    order: int,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The 1-norm or 2-norm over `dim`. Its derivative at zero is zero."""
    dims = tuple(dim)
    x = only_counted(x, where, weight)
    if order == 1 or (not dims and where is None and weight is None):
        return total(x.abs(), dims, keepdim, where, weight)
    if where is not None or weight is not None or x.numel() == 0:
        return root(total(x.square(), dims, keepdim, where, weight))
    return root(plain_mean_square(x, dims, keepdim) * count_of(x, dims))


def largest(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The largest value over `dim`; equal ones share the gradient."""
    dims = tuple(dim)
    if _pools_nothing(x, dims):
        return x.sum(dims, keepdim=keepdim)
    if where is None and weight is None:
        return x.amax(dims, keepdim=keepdim) if dims else x
    counts = (coefficients(x, where, weight) != 0).expand_as(x)
    if not dims:
        return x.masked_fill(~counts, 0)
    maxima = x.masked_fill(~counts, -torch.inf).amax(dims, keepdim=keepdim)
    return maxima.masked_fill(~counts.any(dims, keepdim=keepdim), 0)


def smallest(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The smallest value over `dim`; equal ones share the gradient."""
    return -largest(-x, dim, keepdim, where, weight)


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


def only_counted(x: Tensor, where: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """The tensor with zeros for excluded elements, also for NaN.

    An element of weight zero stays if it is finite: the gradient of its weight depends on it.
    """
    if where is not None:
        x = torch.where(where != 0, x, x.new_zeros(()))
    if weight is not None:
        x = torch.where(weight != 0, x, torch.nan_to_num(x, 0.0, 0.0, 0.0))
    return x


def weighed(x: Tensor, where: Tensor | None, weight: Tensor | None) -> Tensor:
    """Each element times its weight; zero for excluded elements, also for NaN."""
    x = only_counted(x, where, weight)
    return x if weight is None else x * coefficients(x, where, weight)


def coefficients(x: Tensor, where: Tensor | None, weight: Tensor | None) -> Tensor:
    """The weight of each element, zero if excluded: of the rank of `x`, and broadcasts against it.

    A mask over a few dimensions makes no tensor of the size of `x`.
    """
    weights = x.new_ones(()) if weight is None else weight.to(x.dtype)
    if where is not None:
        weights = torch.where(where != 0, weights, torch.zeros_like(weights))
    return weights.reshape((1,) * (x.dim() - weights.dim()) + weights.shape)


def total_weight(x: Tensor, weights: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The total weight of each pool; pooled dimensions stay, with length one."""
    times = 1
    for d in dims:
        if weights.shape[d] != x.shape[d]:
            times *= x.shape[d]
    return (weights.sum(dims, keepdim=True) if dims else weights) * times


def over(added: Tensor, weight: Tensor) -> Tensor:
    """The quotient of a weighted sum and its weight; zero for weight zero."""
    empty = weight == 0
    return (added / weight.masked_fill(empty, 1)).masked_fill(empty, 0)


def _tensors(a: Tensor | float, b: Tensor | float) -> tuple[Tensor, Tensor]:
    if not isinstance(a, Tensor):
        b = torch.as_tensor(b)
        return torch.as_tensor(a, dtype=b.dtype, device=b.device), b
    return a, torch.as_tensor(b, dtype=a.dtype, device=a.device)


def _weighted_sum(
    x: Tensor, dims: tuple[int, ...], where: Tensor | None, weight: Tensor | None
) -> Tensor:
    terms = weighed(x, where, weight)
    return terms.sum(dims, keepdim=True) if dims else terms


def _pools_nothing(x: Tensor, dims: tuple[int, ...]) -> bool:
    return any(x.shape[d] == 0 for d in dims)
