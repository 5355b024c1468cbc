"""The statistics of pools that an index names: the second kind of `Pools`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Protocol, cast

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.mean_and_variance import Moments
from metanorm.runtime.pools import Pools, R_co
from metanorm.runtime.weighing import coefficients, over, total_weight, weighed

if TYPE_CHECKING:
    from metanorm.runtime.groups import Groups


class GroupPools(Pools):
    """The groups along one dimension of a tensor of a rank, over other dimensions as well.

    The dimension of the groups stays, and enumerates them; the others go.
    """

    def __init__(
        self, groups: Groups, rank: int, dim: int, also: Iterable[int],
        where: Tensor | None, weight: Tensor | None,
    ) -> None:  # fmt: skip
        super().__init__(where, weight)
        self.groups, self.dim, self.also = groups, dim % rank, tuple(also)

    def total(self, x: Tensor) -> Tensor:
        """The weighted sum of each pool."""
        terms = weighed(self._expanded(x), self.where, self.weight)
        partial = terms.sum(self.also, keepdim=True) if self.also else terms
        return self._without_others(self.groups.sum_along(partial, self.dim))

    def size(self, x: Tensor) -> Tensor:
        """The total weight of each pool."""
        x = self._expanded(x)
        weights = total_weight(x, coefficients(x, self.where, self.weight), self.also)
        if weights.shape[self.dim] == 1:  # all positions alike
            weights = weights * self._sizes(x)
        else:
            weights = self.groups.sum_along(weights, self.dim)
        return self._without_others(weights)

    def mean(self, x: Tensor) -> Tensor:
        """The mean of each pool, zero if it is empty or weighs nothing."""
        # In a graph of torch.compile only torch checks labels: with IndexError where it counts
        # them, with RuntimeError where it adds up what they label. So sizes come first.
        size = self.size(x)
        return over(self.total(x), size)

    def moments(self, x: Tensor) -> Moments:
        """Mean and biased variance of each pool, in two passes."""
        x = self.counted(x)
        group_mean = self.mean(x)
        mean = group_mean
        for d in sorted(d % x.dim() for d in self.also):
            mean = mean.unsqueeze(d)
        centred = x - self.groups.spread(mean, self.dim)
        return Moments(group_mean, self.mean(centred.square()))

    def largest(self, x: Tensor) -> Tensor:
        """The largest value of each pool, zero if nothing counts; equal ones share the gradient."""
        x = self._expanded(x)
        if self.counts_all:
            return self._without_others(self._largest(x))
        counts = (coefficients(x, self.where, self.weight) != 0).expand_as(x)
        largest = self._largest(x.masked_fill(~counts, -torch.inf))
        present = self._largest(counts.to(x.dtype))
        return self._without_others(largest.masked_fill(present == 0, 0))

    def counted(self, x: Tensor) -> Tensor:
        """The tensor with all positions, and zeros for what does not count."""
        return super().counted(self._expanded(x))

    def _largest(self, x: Tensor) -> Tensor:
        """The largest value of each pool; all dimensions stay."""
        dim, groups = self.dim, self.groups
        partial = x.amax(self.also, keepdim=True) if self.also else x
        if groups.index is None:
            return pools.largest(partial, (dim,), keepdim=True)
        shape, view = list(partial.shape), [1] * partial.dim()
        shape[dim], view[dim] = groups.count, groups.length
        index = groups.index.view(view).expand_as(partial)
        # torch counts the initial value among equal ones, excluded or not: NaN equals nothing.
        initial = partial.new_full(shape, torch.nan)
        largest = initial.scatter_reduce(dim, index, partial, "amax", include_self=False)
        return largest.masked_fill(self._sizes(partial) == 0, 0)

    def _sizes(self, like: Tensor) -> Tensor:
        """How many positions each group has, as a view along its dimension."""
        view = [1] * like.dim()
        view[self.dim] = self.groups.count
        return self.groups.sizes(like).view(view)

    def _expanded(self, x: Tensor) -> Tensor:
        return self.groups.expanded(x, self.dim)

    def _without_others(self, value: Tensor) -> Tensor:
        return value.squeeze(self.also) if self.also else value


class OverGroups(Protocol[R_co]):
    """A statistic of each group, along `dim` and over the dimensions `also`."""

    def __call__(
        self, x: Tensor, dim: int, also: Iterable[int] = (),
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        """Pool `x`: in the result `dim` enumerates groups, and the dimensions `also` are gone."""
        ...


class _Method(Protocol[R_co]):
    """A method of `Groups`, as the type checker sees it."""

    def __get__(self, groups: Groups | None, owner: type[Groups]) -> OverGroups[R_co]: ...


def over_groups(statistic: Callable[[GroupPools, Tensor], R_co]) -> _Method[R_co]:
    """A statistic as a method of `Groups`."""

    def method(
        self: Groups, x: Tensor, dim: int, also: Iterable[int] = (),
        where: Tensor | None = None, weight: Tensor | None = None,
    ) -> R_co:  # fmt: skip
        return statistic(GroupPools(self, x.dim(), dim, also, where, weight), x)

    method.__name__, method.__doc__ = statistic.__name__, statistic.__doc__
    return cast(_Method[R_co], method)
