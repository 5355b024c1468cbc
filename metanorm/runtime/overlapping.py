"""Statistics over pools that overlap: windows, the past, neighbours in a graph, rows of a matrix.

Such a pool belongs to a position, so the dimension keeps its length. Several dimensions are pooled
one after the other. Variances are merged by Chan's rule, never as E[x^2] - E[x]^2: the variance of
the means is added to the mean of the variances. Everything is computed in float64, since running
totals may span a whole axis.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.mean_and_variance import Moments
from metanorm.runtime.pools import over


class PoolMatrix:
    """The weight of each position of a dimension in each pool. Pools may overlap."""

    weighs = False  # whether entries are weights, which have a gradient

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each pool."""
        raise NotImplementedError

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The sum of weight * (x - mean)^2 over each pool; `mean` has one value for each pool."""
        raise NotImplementedError

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each pool; minus infinity for an empty one."""
        raise NotImplementedError

    def outside(self, like: Tensor, length: int) -> Tensor | None:
        """How many zeros of padding each pool has; `None` for no padding."""
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
    dims, total = tuple(dim), pools.total(_to_double(x), tuple(dim), True, where, weight)
    for d, matrix in _by_positive_dim(along, x):
        total = matrix.total(total, d)
    return _finish(total, x, dims, keepdim)


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
        mean = _to_double(pools.mean(x, dims, keepdim=True))
        for d, matrix in _by_positive_dim(along, x):
            mean = over(matrix.total(mean, d), _sizes(matrix, mean, d))
        return _finish(mean, x, dims, keepdim)
    total = total_along(_to_double(x), along, dims, True, where, weight)
    return _finish(over(total, _total_weights(x, along, dims, where, weight)), x, dims, keepdim)


def mean_square_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The mean of squares by the matrices `along` their dimensions and over all of `dim`."""
    squares = pools.only_counted(_to_double(x), where, weight).square()
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
    moments = _moments(x, along, dims, where, weight)
    if weight is not None or any(matrix.weighs for matrix in along.values()):
        moments = _with_derivatives_of_sums(moments, x, along, dims, where, weight)
    return Moments(*(_finish(part, x, dims, keepdim) for part in moments))


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
    empty = _total_weights(x, along, dims, where, weight) == 0
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
    weights: Tensor | None = None
    if where is not None or weight is not None:
        x = pools.only_counted(x, where, weight)
        weights = _to_double(pools.total_weight(x, pools.coefficients(x, where, weight), dims))
    # Reduce over `dims` before the conversion to float64, which then is of few values.
    cell_moments = pools.moments(x, dims, True, where, weight) if dims else (x, torch.zeros_like(x))
    mean, var = (_to_double(part) for part in cell_moments)
    for d, matrix in _by_positive_dim(along, x):
        mean, var, weights = _pool_moments(mean, var, weights, matrix, d)
    return Moments(mean, var)


def _with_derivatives_of_sums(
    moments: Moments,
    x: Tensor,
    along: MatrixByDim,
    dims: tuple[int, ...],
    where: Tensor | None,
    weight: Tensor | None,
) -> Moments:
    """The same numbers, with the derivatives of plain sums.

    By Chan's rule, a cell of weight zero has no mean, so that its weight would have no gradient.
    The sums are taken about a centre near all pools, so that little cancels.
    """
    x = pools.only_counted(_to_double(x), where, weight)
    all_dims = (*dims, *(d % x.dim() for d in along))
    centre = pools.mean(x.detach(), all_dims, True, where, weight).detach()
    centred = x - torch.where(centre.isfinite(), centre, 0)
    total = _total_weights(x, along, dims, where, weight)
    mean, square = (
        over(total_along(part, along, dims, True, where, weight), total)
        for part in (centred, centred.square())
    )
    # The value would cancel. Only the derivative is used.
    with_derivatives = (mean, square - mean.square())
    pairs = zip(moments, with_derivatives)
    return Moments(*(value.detach() + (d - d.detach()) for value, d in pairs))


def _pool_moments(
    mean: Tensor, var: Tensor, weights: Tensor | None, matrix: PoolMatrix, dim: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The moments and the weight of pools of cells, from those of the cells."""
    if weights is None:
        size, zeros = _sizes(matrix, mean, dim), _outside_zeros(matrix, mean, dim)
        ones = mean.new_ones((1,) * mean.dim())
        pool_mean = over(matrix.total(mean, dim), size)
        squares = matrix.squares(mean, pool_mean, ones, dim) + matrix.total(var, dim)
        if zeros is not None:
            squares = squares + zeros * pool_mean.square()
        return pool_mean, over(squares, size), None
    weights = _expand_weights(weights, dim, mean.shape[dim])
    size = matrix.total(weights, dim)
    pool_mean = over(matrix.total(weights * mean, dim), size)
    squares = matrix.squares(mean, pool_mean, weights, dim) + matrix.total(weights * var, dim)
    return pool_mean, over(squares, size), size


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
    counted = pools.only_counted(_to_double(x), where, weight)
    magnitude = counted.abs() if order == 1 else counted.square()
    total = total_along(magnitude, along, dim, keepdim, where, weight)
    return (total if order == 1 else pools.root(total)).to(x.dtype)


def largest_along(
    x: Tensor,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The largest value of each pool; zero for one in which nothing counts."""
    dims, maximum = tuple(dim), x
    is_unweighted = where is None and weight is None
    counts = pools.coefficients(x, where, weight) != 0
    if not is_unweighted:
        maximum = maximum.masked_fill(~counts.expand_as(x), -torch.inf)
    maximum = maximum.amax(dims, keepdim=True) if dims else maximum
    n_counted = pools.total_weight(x, counts.to(x.dtype), dims)
    for d, matrix in _by_positive_dim(along, x):
        n_counted = matrix.total(_expand_weights(n_counted, d, x.shape[d]), d)
        maximum = matrix.largest(maximum, d)
        n_zeros = _outside_zeros(matrix, x, d) if is_unweighted else None
        if n_zeros is not None:
            maximum = torch.where(n_zeros > 0, maximum.clamp_min(0), maximum)
            n_counted = n_counted + n_zeros
    return _finish(maximum.masked_fill(n_counted == 0, 0), x, dims, keepdim)


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


def _by_positive_dim(along: MatrixByDim, x: Tensor) -> list[tuple[int, PoolMatrix]]:
    return [(d % x.dim(), matrix) for d, matrix in along.items()]


def _to_double(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # mps has no float64


def _finish(value: Tensor, like: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    value = value.to(like.dtype)
    return value if keepdim or not dims else value.squeeze(dims)


def _total_weights(
    x: Tensor,
    along: MatrixByDim,
    dims: tuple[int, ...],
    where: Tensor | None,
    weight: Tensor | None,
) -> Tensor:
    """The total weight of the elements of each pool."""
    weights = _to_double(pools.total_weight(x, pools.coefficients(x, where, weight), dims))
    for d, matrix in _by_positive_dim(along, x):
        weights = matrix.total(_expand_weights(weights, d, x.shape[d]), d)
    return weights


def _expand_weights(weights: Tensor, dim: int, length: int) -> Tensor:
    """Weights expanded to all positions of a dimension."""
    return weights.expand([length if d == dim else -1 for d in range(weights.dim())])


def _sizes(matrix: PoolMatrix, like: Tensor, dim: int) -> Tensor:
    """The number of elements of each pool, as a view along a dimension."""
    return _view_along(matrix.sizes(like, like.shape[dim]), like, dim)


def _outside_zeros(matrix: PoolMatrix, like: Tensor, dim: int) -> Tensor | None:
    zeros = matrix.outside(like, like.shape[dim])
    return None if zeros is None else _view_along(zeros, like, dim)


def _view_along(values: Tensor, like: Tensor, dim: int) -> Tensor:
    shape = [1] * like.dim()
    shape[dim] = values.shape[0]
    return values.view(shape)
