"""Statistics by matrices along dimensions: windows, the past, neighbours in a graph, given rows.

Such a pool belongs to a position and not to a part of the axis, so that the dimension stays. Of
several dimensions one after the other is pooled. Variances are brought together on the way by
Chan's rule, never as E[x^2] - E[x]^2: that of the means is added to the mean of the variances.
Everything is computed in float64, since totals run along whole axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.mean_and_variance import Moments
from metanorm.runtime.pools import over


class PoolMatrix:
    """How much each position of a dimension counts for each pool. Pools may overlap."""

    weighs = False  # whether entries are weights with a gradient of their own

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each pool."""
        raise NotImplementedError

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The sum of weight * (x - mean)^2 over each pool, about one mean for each pool."""
        raise NotImplementedError

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each pool; minus infinity for an empty one."""
        raise NotImplementedError

    def outside(self, like: Tensor, length: int) -> Tensor | None:
        """How many zeros belong to each pool beside its positions; `None` for none at all."""
        return None

    def sizes(self, like: Tensor, length: int) -> Tensor:
        """How many elements each pool has, in the dtype of `like`."""
        size = self.total(like.new_ones(length), 0)
        zeros = self.outside(like, length)
        return size if zeros is None else size + zeros


MatrixByDim = Mapping[int, PoolMatrix]


def total_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The sum by the matrices `along` their dimensions and over all of `dim`.

    `along` maps dimensions, counted from the front or the end, to matrices; these dimensions stay.
    `where` and `weight` broadcast against `x`.
    """
    dims, added = tuple(dim), pools.total(_wide(x), tuple(dim), True, where, weight)
    for d, matrix in _from_the_front(along, x):
        added = matrix.total(added, d)
    return _narrow(added, x, dims, keepdim)


def mean_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean by the matrices `along` their dimensions and over all of `dim`.

    Zero for a pool that is empty, or weighs nothing.
    """
    dims = tuple(dim)
    if where is None and weight is None:
        average = _wide(pools.mean(x, dims, keepdim=True))
        for d, matrix in _from_the_front(along, x):
            average = over(matrix.total(average, d), _sizes(matrix, average, d))
        return _narrow(average, x, dims, keepdim)
    added = total_along(_wide(x), along, dims, True, where, weight)
    return _narrow(over(added, _weights(x, along, dims, where, weight)), x, dims, keepdim)


def mean_square_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean of squares by the matrices `along` their dimensions and over all of `dim`."""
    squares = pools.only_counted(_wide(x), where, weight).square()
    return mean_along(squares, along, dim, keepdim, where, weight).to(x.dtype)


def moments_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Moments:
    """Mean and biased variance by the matrices `along` their dimensions and over all of `dim`.

    Every pool has a mean of its own, about which its variance is taken.
    """
    dims = tuple(dim)
    measured = _moments(x, along, dims, where, weight)
    if weight is not None or any(matrix.weighs for matrix in along.values()):
        measured = _derived(measured, x, along, dims, where, weight)
    return Moments(*(_narrow(part, x, dims, keepdim) for part in measured))


def second_along(
    x: Tensor,
    about: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The second moment about a centre that each pool has for itself; zero for an empty pool.

    `about` broadcasts against the result.
    """
    dims = tuple(dim)
    mean, var = moments_along(x, along, dims, True, where, weight)
    empty = _weights(x, along, dims, where, weight) == 0
    if dims and not keepdim:
        mean, var, empty = (part.squeeze(dims) for part in (mean, var, empty))
    return (var + (mean - about).square()).masked_fill(empty, 0)


def _moments(
    x: Tensor,
    along: MatrixByDim,
    dims: tuple[int, ...],
    where: Tensor | None,
    weight: Tensor | None,
) -> Moments:
    """Mean and variance in float64; pooled dimensions stay, with length one."""
    counted: Tensor | None = None
    if where is not None or weight is not None:
        x = pools.only_counted(x, where, weight)
        counted = _wide(pools.total_weight(x, pools.coefficients(x, where, weight), dims))
    # Nothing of the size of x is widened where it is measured as a whole first.
    given = pools.moments(x, dims, True, where, weight) if dims else (x, torch.zeros_like(x))
    average, var = (_wide(part) for part in given)
    for d, matrix in _from_the_front(along, x):
        average, var, counted = _joined(average, var, counted, matrix, d)
    return Moments(average, var)


def _derived(
    measured: Moments,
    x: Tensor,
    along: MatrixByDim,
    dims: tuple[int, ...],
    where: Tensor | None,
    weight: Tensor | None,
) -> Moments:
    """The same numbers with the derivatives of plain sums.

    Cells that weigh nothing have no mean, through which a weight of zero could have its gradient.
    The sums are about a centre near all pools.
    """
    x = pools.only_counted(_wide(x), where, weight)
    whole = (*dims, *(d % x.dim() for d in along))
    near = pools.mean(x.detach(), whole, True, where, weight).detach()
    centred = x - torch.where(near.isfinite(), near, 0)
    total = _weights(x, along, dims, where, weight)
    mean, square = (
        over(total_along(part, along, dims, True, where, weight), total)
        for part in (centred, centred.square())
    )
    # Its value would cancel, and is not used: only its derivative is.
    derived = (mean, square - mean.square())
    return Moments(*(own.detach() + (d - d.detach()) for own, d in zip(measured, derived)))


def _joined(
    average: Tensor, var: Tensor, counted: Tensor | None, matrix: PoolMatrix, dim: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The moments of pools of cells, from those of the cells and what they weigh."""
    if counted is None:
        size, zeros = _sizes(matrix, average, dim), _zeros(matrix, average, dim)
        alike = average.new_ones((1,) * average.dim())
        centre = over(matrix.total(average, dim), size)
        squares = matrix.squares(average, centre, alike, dim) + matrix.total(var, dim)
        if zeros is not None:
            squares = squares + zeros * centre.square()
        return centre, over(squares, size), None
    counted = _whole(counted, dim, average.shape[dim])
    size = matrix.total(counted, dim)
    centre = over(matrix.total(counted * average, dim), size)
    squares = matrix.squares(average, centre, counted, dim) + matrix.total(counted * var, dim)
    return centre, over(squares, size), size


def norm_along(
    x: Tensor,
    order: int,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The 1-norm or 2-norm by the matrices. Its derivative at zero is zero."""
    wide = pools.only_counted(_wide(x), where, weight)
    size = wide.abs() if order == 1 else wide.square()
    added = total_along(size, along, dim, keepdim, where, weight)
    return (added if order == 1 else pools.root(added)).to(x.dtype)


def largest_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The largest value of each pool; zero for one in which nothing counts."""
    dims, best = tuple(dim), x
    plain = where is None and weight is None
    counts = pools.coefficients(x, where, weight) != 0
    if not plain:
        best = best.masked_fill(~counts.expand_as(x), -torch.inf)
    best = best.amax(dims, keepdim=True) if dims else best
    present = pools.total_weight(x, counts.to(x.dtype), dims)
    for d, matrix in _from_the_front(along, x):
        present = matrix.total(_whole(present, d, x.shape[d]), d)
        best = matrix.largest(best, d)
        zeros = _zeros(matrix, x, d) if plain else None
        if zeros is not None:
            best = torch.where(zeros > 0, best.clamp_min(0), best)
            present = present + zeros
    return _narrow(best.masked_fill(present == 0, 0), x, dims, keepdim)


def smallest_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The smallest value of each pool; zero for one in which nothing counts."""
    return -largest_along(-x, along, dim, keepdim, where, weight)


def _from_the_front(along: MatrixByDim, x: Tensor) -> list[tuple[int, PoolMatrix]]:
    return [(d % x.dim(), matrix) for d, matrix in along.items()]


def _wide(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # mps has no float64


def _narrow(value: Tensor, like: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    value = value.to(like.dtype)
    return value if keepdim or not dims else value.squeeze(dims)


def _weights(
    x: Tensor,
    along: MatrixByDim,
    dims: tuple[int, ...],
    where: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """What the elements of each pool weigh together."""
    counted = _wide(pools.total_weight(x, pools.coefficients(x, where, weight), dims))
    for d, matrix in _from_the_front(along, x):
        counted = matrix.total(_whole(counted, d, x.shape[d]), d)
    return counted


def _whole(counted: Tensor, dim: int, length: int) -> Tensor:
    """Weights that are the same along a dimension, for each of its positions."""
    return counted.expand([length if d == dim else -1 for d in range(counted.dim())])


def _sizes(matrix: PoolMatrix, like: Tensor, dim: int) -> Tensor:
    """The number of elements of each pool, lined up with a dimension."""
    return _lined_up(matrix.sizes(like, like.shape[dim]), like, dim)


def _zeros(matrix: PoolMatrix, like: Tensor, dim: int) -> Tensor | None:
    zeros = matrix.outside(like, like.shape[dim])
    return None if zeros is None else _lined_up(zeros, like, dim)


def _lined_up(values: Tensor, like: Tensor, dim: int) -> Tensor:
    shape = [1] * like.dim()
    shape[dim] = values.shape[0]
    return values.view(shape)
