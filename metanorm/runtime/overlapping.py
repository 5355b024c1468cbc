"""Statistics over pools that overlap: windows, the past, neighbours in a graph, rows of a matrix.

Such a pool belongs to a position, so the dimension keeps its length. Several dimensions are pooled
one after the other. Variances are merged by Chan's rule, never as E[x^2] - E[x]^2: the variance of
the means is added to the mean of the variances. Everything is computed in float64, since running
totals may span a whole axis.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from metanorm.runtime.mean_and_variance import Moments
from metanorm.runtime.pools import DimensionPools, Pools, R_co
from metanorm.runtime.weighing import coefficients, over, total_weight


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


class MatrixPools(Pools):
    """Pools by the matrices `along` their dimensions, which stay, and over all of `dim`.

    `along` maps dimensions, counted from the front or the end, to matrices.
    """

    def __init__(
        self, along: MatrixByDim, dim: Iterable[int], keepdim: bool,
        where: Tensor | None, weight: Tensor | None,
    ) -> None:  # fmt: skip
        super().__init__(where, weight)
        self.along, self.dims, self.keepdim = along, tuple(dim), keepdim
        self.cells = DimensionPools(self.dims, True, where, weight)  # those over `dim` alone

    def total(self, x: Tensor) -> Tensor:
        """The weighted sum of each pool."""
        return self._finish(self._total(x), x)

    def size(self, x: Tensor) -> Tensor:
        """The total weight of each pool."""
        return self._finish(self._size(x), x)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each pool, zero if it is empty or weighs nothing."""
        if not self.counts_all:
            return self._finish(over(self._total(x), self._size(x)), x)
        mean = _to_double(self.cells.mean(x))
        for d, matrix in _by_positive_dim(self.along, x):
            mean = over(matrix.total(mean, d), _sizes(matrix, mean, d))
        return self._finish(mean, x)

    def mean_square(self, x: Tensor) -> Tensor:
        """The mean of squares of each pool."""
        return super().mean_square(_to_double(x)).to(x.dtype)

    def norm(self, x: Tensor, order: int) -> Tensor:
        """The 1-norm or 2-norm of each pool. Its derivative at zero is zero."""
        return super().norm(_to_double(x), order).to(x.dtype)

    def moments(self, x: Tensor) -> Moments:
        """Mean and biased variance of each pool, which has a mean of its own."""
        moments = self._moments(x)
        if self.weight is not None or any(matrix.weighs for matrix in self.along.values()):
            moments = self._with_derivatives_of_sums(moments, x)
        return Moments(*(self._finish(part, x) for part in moments))

    def second(self, x: Tensor, about: Tensor) -> Tensor:
        """The second moment about a centre that each pool has for itself; zero for an empty pool.

        `about` broadcasts against the result.
        """
        mean, var = self.moments(x)
        empty = self._size(x) == 0
        if self.dims and not self.keepdim:
            empty = empty.squeeze(self.dims)
        return (var + (mean - about).square()).masked_fill(empty, 0)

    def largest(self, x: Tensor) -> Tensor:
        """The largest value of each pool, zero if nothing counts; equal ones share the gradient."""
        maximum, counts = x, coefficients(x, self.where, self.weight) != 0
        if not self.counts_all:
            maximum = maximum.masked_fill(~counts.expand_as(x), -torch.inf)
        maximum = maximum.amax(self.dims, keepdim=True) if self.dims else maximum
        n_counted = total_weight(x, counts.to(x.dtype), self.dims)
        for d, matrix in _by_positive_dim(self.along, x):
            n_counted = matrix.total(_expand_weights(n_counted, d, x.shape[d]), d)
            maximum = matrix.largest(maximum, d)
            n_zeros = _outside_zeros(matrix, x, d) if self.counts_all else None
            if n_zeros is not None:
                maximum = torch.where(n_zeros > 0, maximum.clamp_min(0), maximum)
                n_counted = n_counted + n_zeros
        return self._finish(maximum.masked_fill(n_counted == 0, 0), x)

    # In float64; pooled dimensions stay, with length one.

    def _total(self, x: Tensor) -> Tensor:
        total = self.cells.total(_to_double(x))
        for d, matrix in _by_positive_dim(self.along, x):
            total = matrix.total(total, d)
        return total

    def _size(self, x: Tensor) -> Tensor:
        weights = _to_double(self.cells.size(x))
        for d, matrix in _by_positive_dim(self.along, x):
            weights = matrix.total(_expand_weights(weights, d, x.shape[d]), d)
        return weights

    def _moments(self, x: Tensor) -> Moments:
        weights: Tensor | None = None
        if not self.counts_all:
            x = self.counted(x)
            weights = _to_double(self.cells.size(x))
        # Reduce over `dims` before the conversion to float64, which then is of few values.
        cell_moments = self.cells.moments(x) if self.dims else (x, torch.zeros_like(x))
        mean, var = (_to_double(part) for part in cell_moments)
        for d, matrix in _by_positive_dim(self.along, x):
            mean, var, weights = _pool_moments(mean, var, weights, matrix, d)
        return Moments(mean, var)

    def _with_derivatives_of_sums(self, moments: Moments, x: Tensor) -> Moments:
        """The same numbers, with the derivatives of plain sums.

        By Chan's rule, a cell of weight zero has no mean, so that its weight would have no
        gradient. The sums are taken about a centre near all pools, so that little cancels.
        """
        x = self.counted(_to_double(x))
        all_dims = (*self.dims, *(d % x.dim() for d in self.along))
        centre = DimensionPools(all_dims, True, self.where, self.weight).mean(x.detach()).detach()
        centred = x - torch.where(centre.isfinite(), centre, 0)
        size = self._size(x)
        mean, square = (over(self._total(part), size) for part in (centred, centred.square()))
        # The value would cancel. Only the derivative is used.
        with_derivatives = (mean, square - mean.square())
        pairs = zip(moments, with_derivatives)
        return Moments(*(value.detach() + (d - d.detach()) for value, d in pairs))

    def _finish(self, value: Tensor, like: Tensor) -> Tensor:
        value = value.to(like.dtype)
        return value if self.keepdim or not self.dims else value.squeeze(self.dims)


class AlongMatrices(Protocol[R_co]):
    """A statistic by the matrices `along` their dimensions, and over the dimensions `dim`."""

    def __call__(
        self, x: Tensor, along: MatrixByDim, dim: Iterable[int] = (), keepdim: bool = False,
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        """Pool `x`: dimensions `along` matrices stay, those of `dim` go unless `keepdim`."""
        ...


def _along(statistic: Callable[[MatrixPools, Tensor], R_co]) -> AlongMatrices[R_co]:
    def function(
        x: Tensor, along: MatrixByDim, dim: Iterable[int] = (), keepdim: bool = False,
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        return statistic(MatrixPools(along, dim, keepdim, where, weight), x)

    function.__name__ = function.__qualname__ = f"{statistic.__name__}_along"
    function.__doc__ = statistic.__doc__
    return function


# ---- the statistics as functions, which generated modules call

total_along = _along(MatrixPools.total)
mean_along = _along(MatrixPools.mean)
moments_along = _along(MatrixPools.moments)
mean_square_along = _along(MatrixPools.mean_square)
largest_along = _along(MatrixPools.largest)
smallest_along = _along(MatrixPools.smallest)


def norm_along(
    x: Tensor,
    order: int,
    along: MatrixByDim,
    dim: Iterable[int] = (),
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The 1-norm or 2-norm of each pool. Its derivative at zero is zero."""
    return MatrixPools(along, dim, keepdim, where, weight).norm(x, order)


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
    return MatrixPools(along, dim, keepdim, where, weight).second(x, about)


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


def _by_positive_dim(along: MatrixByDim, x: Tensor) -> list[tuple[int, PoolMatrix]]:
    return [(d % x.dim(), matrix) for d, matrix in along.items()]


def _to_double(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # mps has no float64


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
