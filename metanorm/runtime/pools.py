"""The statistics of pools, and the first kind of pools: those over dimensions.

There are seven statistics: total, mean, moments, mean square, norm, largest and smallest. `Pools`
has them all, and each kind of pools says what it computes in its own way: pools over dimensions
here, those of groups in `group_pools.py`, those of matrices in `overlapping.py`.

Over dimensions they are torch's reductions, with three differences: pooling over no dimension
returns the value, an empty pool gives zero instead of NaN, and elements can be excluded (`where`)
or weighted (`weight`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeVar, overload

import torch
from torch import Tensor

from metanorm.runtime.elements import root
from metanorm.runtime.mean_and_variance import (
    Moments,
    count_of,
    plain_mean_square,
    plain_moments,
)
from metanorm.runtime.processes.counting import total_count
from metanorm.runtime.processes.process_groups import Group
from metanorm.runtime.weighing import coefficients, only_counted, over, total_weight, weighed

R_co = TypeVar("R_co", covariant=True)


class Pools:
    """Pools of the elements of a tensor, and the statistics of each pool.

    A kind of pools has `total`, `size`, `moments` and `largest`. The others follow from these, but
    a kind may have a better way.
    """

    def __init__(self, where: Tensor | None, weight: Tensor | None) -> None:
        self.where, self.weight = where, weight
        self.counts_all = where is None and weight is None

    def total(self, x: Tensor) -> Tensor:
        """The weighted sum of each pool."""
        raise NotImplementedError

    def size(self, x: Tensor) -> Tensor:
        """The total weight of each pool."""
        raise NotImplementedError

    def moments(self, x: Tensor) -> Moments:
        """Mean and biased variance of each pool, never by E[x^2] - E[x]^2."""
        raise NotImplementedError

    def largest(self, x: Tensor) -> Tensor:
        """The largest value of each pool, zero if nothing counts; equal ones share the gradient."""
        raise NotImplementedError

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each pool, zero if it is empty or weighs nothing."""
        return over(self.total(x), self.size(x))

    def mean_square(self, x: Tensor) -> Tensor:
        """The mean of squares of each pool."""
        return self.mean(self.counted(x).square())

    def norm(self, x: Tensor, order: int) -> Tensor:
        """The 1-norm or 2-norm of each pool. Its derivative at zero is zero."""
        x = self.counted(x)
        return self.total(x.abs()) if order == 1 else root(self.total(x.square()))

    def smallest(self, x: Tensor) -> Tensor:
        """The smallest value of each pool, zero if nothing counts; equal ones share the
        gradient."""
        return -self.largest(-x)

    def counted(self, x: Tensor) -> Tensor:
        """The tensor with zeros for what does not count."""
        return only_counted(x, self.where, self.weight)


class DimensionPools(Pools):
    """Pools over dimensions, which stay with length one if `keepdim` says so."""

    def __init__(
        self, dim: Iterable[int], keepdim: bool, where: Tensor | None, weight: Tensor | None
    ) -> None:
        super().__init__(where, weight)
        self.dims, self.keepdim = tuple(dim), keepdim

    def total(self, x: Tensor) -> Tensor:
        """The weighted sum of each pool."""
        terms = weighed(x, self.where, self.weight)
        return terms.sum(self.dims, keepdim=self.keepdim) if self.dims else terms

    def size(self, x: Tensor) -> Tensor:
        """The total weight of each pool."""
        weights = total_weight(x, coefficients(x, self.where, self.weight), self.dims)
        return weights.squeeze(self.dims) if self.dims and not self.keepdim else weights

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each pool, zero if it is empty or weighs nothing."""
        if not self.counts_all:
            return super().mean(x)
        if not self.dims or self._pools_nothing(x):
            return self.total(x)
        return x.mean(self.dims, keepdim=self.keepdim)

    def moments(self, x: Tensor) -> Moments:
        """Mean and biased variance of each pool: two passes or Welford's, never
        E[x^2] - E[x]^2."""
        if not self.counts_all:
            x, kept = self.counted(x), DimensionPools(self.dims, True, self.where, self.weight)
            mean = kept.mean(x)
            var = self.mean((x - mean).square())
            return Moments(mean if self.keepdim else mean.squeeze(self.dims), var)
        if not self.dims:
            return Moments(x, torch.zeros_like(x))
        if x.numel() == 0:
            zero = x.sum(self.dims, keepdim=self.keepdim)
            return Moments(zero, zero)
        return plain_moments(x, self.dims, self.keepdim)

    def mean_square(self, x: Tensor) -> Tensor:
        """The mean of squares of each pool."""
        if self.counts_all and self.dims and x.numel():
            return plain_mean_square(x, self.dims, self.keepdim)
        return super().mean_square(x)

    def norm(self, x: Tensor, order: int) -> Tensor:
        """The 1-norm or 2-norm of each pool. Its derivative at zero is zero."""
        if self.counts_all and not self.dims:
            return x.abs()
        if order == 1 or not self.counts_all or x.numel() == 0:
            return super().norm(x, order)
        return root(plain_mean_square(x, self.dims, self.keepdim) * count_of(x, self.dims))

    def largest(self, x: Tensor) -> Tensor:
        """The largest value of each pool, zero if nothing counts; equal ones share the gradient."""
        dims, keepdim = self.dims, self.keepdim
        if self._pools_nothing(x):
            return x.sum(dims, keepdim=keepdim)
        if self.counts_all:
            return x.amax(dims, keepdim=keepdim) if dims else x
        counts = (coefficients(x, self.where, self.weight) != 0).expand_as(x)
        if not dims:
            return x.masked_fill(~counts, 0)
        maxima = x.masked_fill(~counts, -torch.inf).amax(dims, keepdim=keepdim)
        return maxima.masked_fill(~counts.any(dims, keepdim=keepdim), 0)

    def _pools_nothing(self, x: Tensor) -> bool:
        return any(x.shape[d] == 0 for d in self.dims)


# ---- the statistics over dimensions as functions, which generated modules call


class OverDimensions(Protocol[R_co]):
    """A statistic over the dimensions `dim`; `where` and `weight` broadcast against `x`."""

    def __call__(
        self, x: Tensor, dim: Iterable[int], keepdim: bool = False,
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        """Pool `x` over `dim`: dimensions that go, or stay with length one if `keepdim`."""
        ...


def _over_dimensions(statistic: Callable[[DimensionPools, Tensor], R_co]) -> OverDimensions[R_co]:
    def function(
        x: Tensor, dim: Iterable[int], keepdim: bool = False,
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        return statistic(DimensionPools(dim, keepdim, where, weight), x)

    function.__name__ = function.__qualname__ = statistic.__name__
    function.__doc__ = statistic.__doc__
    return function


moments = _over_dimensions(DimensionPools.moments)
mean = _over_dimensions(DimensionPools.mean)
mean_square = _over_dimensions(DimensionPools.mean_square)
largest = _over_dimensions(DimensionPools.largest)
smallest = _over_dimensions(DimensionPools.smallest)


def norm(
    x: Tensor,
    order: int,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The 1-norm or 2-norm of each pool. Its derivative at zero is zero."""
    return DimensionPools(dim, keepdim, where, weight).norm(x, order)


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
    if not isinstance(x, Tensor):
        return total_count(x, dim)
    return DimensionPools(dim, keepdim, where, weight).total(x)
