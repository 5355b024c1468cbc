"""Statistics over the groups that an index names: graphs of a batch, classes, domains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.arguments import GROUP_LABELS, demand_count, demand_whole
from metanorm.runtime.mean_and_variance import CHUNK, Moments
from metanorm.runtime.processes.sums import PowerSums, back, gaps_of
from metanorm.runtime.saving import save, saved
from metanorm.runtime.segments import Segments, segments_of
from metanorm.runtime.tensors import is_plain_tensor, is_traced, must_decompose
from metanorm.runtime.tracing import is_tracing

LABELS = (torch.int64, torch.int32)
MOST = 1 << 48  # bytes that a process can have


def demand_labels(index: Tensor, what: str) -> None:
    """Refuse labels that are not integers of 32 or 64 bits: `TypeError`."""
    demand_whole(index, what)
    if index.dtype not in LABELS:
        raise TypeError(f"{what} must be int64 or int32, got {index.dtype}: convert them first")


class Groups:
    """Positions along a dimension, grouped by an index.

    `index` holds a group number for each position, in any order, or is `None` for a single
    group; `count` is the number of groups, of which some may be empty. Without `count` it is
    read from the index, which makes a GPU wait and cannot be traced by `torch.compile`.

    `what` and `among` are what errors call the labels and the groups; `fresh` says that the labels
    are made anew in each call, so that it is not worth it to remember anything of them.

    Raises `TypeError` for labels or a number of groups that are not whole, and, where looking
    does not cost a wait, `IndexError` for labels that name none of the groups.
    """

    def __init__(
        self, index: Tensor | None, count: int | None, length: int,
        what: str = GROUP_LABELS, among: str = "groups", fresh: bool = False,
    ) -> None:  # fmt: skip
        self.index = index
        self.length = length
        if index is not None:
            demand_labels(index, what)
        if index is None:
            self.count = 1
        elif count is not None:
            demand_count(count, among, length)
            self.count = count
        elif is_tracing() and length:  # so that the number stays open
            self.count = index.max() + 1  # type: ignore[assignment]
        else:
            self.count = int(index.max()) + 1 if length else 0
        if index is not None:
            demand_in_range(index, self.count, what, among)
        self.segments: Segments | None = None
        if index is not None and not must_decompose(index):
            self.segments = segments_of(index, self.count, fresh)

    def sizes(self, like: Tensor) -> Tensor:
        """How many positions each group has, in the dtype of `like`: shape [groups]."""
        if self.index is None:
            return like.new_full((1,), self.length)
        ones = torch.ones_like(self.index)
        return ones.new_zeros((self.count,)).index_add(0, self.index, ones).to(like.dtype)

    def spread(self, value: Tensor, dim: int) -> Tensor:
        """A value of each group, given back to its positions (a single group broadcasts)."""
        if self.index is None:
            return value
        if self.segments is not None and not must_decompose(value):
            return self.segments.spread(value, dim)
        return value.index_select(dim, self.index)

    def total(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The sum over each group, and over the dimensions `also`; `dim` then enumerates groups."""
        dim, others = dim % x.dim(), tuple(also)
        x = self._along(x, dim)
        if where is not None or weight is not None:
            x = pools.weighed(x, where, weight)
        inner = pools.total(x, others, keepdim=True)
        added = inner.sum(dim, keepdim=True) if self.index is None else self._add(inner, dim)
        return added.squeeze(others) if others else added

    def mean(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The mean over each group; zero for an empty one."""
        dim, others = dim % x.dim(), tuple(also)
        x = self._along(x, dim)
        weights = self._weights(x, dim, others, where, weight)
        added = self.total(x, dim, others, where, weight)
        return pools.over(added, weights.squeeze(others) if others else weights)

    def moments(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Moments:
        """Mean and biased variance of each group, in two passes."""
        dim, others = dim % x.dim(), tuple(also)
        x = self._along(x, dim)
        if where is not None or weight is not None:
            x = pools.only_counted(x, where, weight)
        average = self.mean(x, dim, others, where, weight)
        inner = average
        for d in sorted(d % x.dim() for d in others):
            inner = inner.unsqueeze(d)
        centred = x - self.spread(inner, dim)
        return Moments(average, self.mean(centred.square(), dim, others, where, weight))

    def mean_square(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The mean of squares over each group; zero for an empty one."""
        x = pools.only_counted(self._along(x, dim % x.dim()), where, weight)
        return self.mean(x.square(), dim, also, where, weight)

    def power_sums(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
        about: Tensor | None = None,
    ) -> PowerSums:
        """The sums of x - about and of its squares over each group, in float64.

        `about` broadcasts against the results.
        """
        gaps = self._gaps(x, dim, also, where, weight, about)
        powers = (gaps, gaps.square())
        return PowerSums(*(self.total(p, dim, also, None, weight) for p in powers))

    def power_sum(
        self,
        x: Tensor,
        power: int,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
        about: Tensor | None = None,
    ) -> Tensor:
        """One of `power_sums`: that of the first or the second power."""
        gaps = self._gaps(x, dim, also, where, weight, about)
        return self.total(gaps if power == 1 else gaps.square(), dim, also, None, weight)

    def _gaps(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int],
        where: Tensor | None,
        weight: Tensor | None,
        about: Tensor | None,
    ) -> Tensor:
        dim = dim % x.dim()
        x = self._along(x, dim)
        centre = back(about, x, also, keepdim=False)
        if centre is not None and centre.dim():
            centre = self.spread(centre, dim)
        return gaps_of(x, centre, where, weight)

    def norm(
        self,
        x: Tensor,
        order: int,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The 1-norm or 2-norm of each group. Its derivative at zero is zero."""
        x = pools.only_counted(self._along(x, dim % x.dim()), where, weight)
        size = x.abs() if order == 1 else x.square()
        added = self.total(size, dim, also, where, weight)
        return added if order == 1 else pools.root(added)

    def largest(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The largest value of each group; zero for an empty one."""
        dim, others = dim % x.dim(), tuple(also)
        x = self._along(x, dim)
        if where is not None or weight is not None:
            counts = (pools.coefficients(x, where, weight) != 0).expand_as(x)
            x = x.masked_fill(~counts, -torch.inf)
            present = self._most(counts.to(x.dtype), dim, others)
            best = self._most(x, dim, others).masked_fill(present == 0, 0)
        else:
            best = self._most(x, dim, others)
        return best.squeeze(others) if others else best

    def smallest(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        weight: Tensor | None = None,
    ) -> Tensor:
        """The smallest value of each group; zero for an empty one."""
        return -self.largest(-x, dim, also, where, weight)

    def _along(self, x: Tensor, dim: int) -> Tensor:
        """All positions; a value that a single group has given back has one for all of them."""
        if x.shape[dim] == self.length:
            return x
        shape = list(x.shape)
        shape[dim] = self.length
        return x.expand(shape)

    def _most(self, x: Tensor, dim: int, others: tuple[int, ...]) -> Tensor:
        inner = x.amax(others, keepdim=True) if others else x
        if self.index is None:
            return pools.largest(inner, (dim,), keepdim=True)
        shape, view = list(inner.shape), [1] * inner.dim()
        shape[dim], view[dim] = self.count, self.length
        index = self.index.view(view).expand_as(inner)
        # torch counts what it starts from among equal values, left out or not: NaN equals nothing.
        start = inner.new_full(shape, torch.nan)
        best = start.scatter_reduce(dim, index, inner, "amax", include_self=False)
        view[dim] = self.count
        return best.masked_fill(self.sizes(inner).view(view) == 0, 0)

    def _weights(
        self,
        x: Tensor,
        dim: int,
        also: tuple[int, ...],
        where: Tensor | None,
        weight: Tensor | None,
    ) -> Tensor:
        """What the elements of each group weigh together."""
        counted = pools.total_weight(x, pools.coefficients(x, where, weight), also)
        if counted.shape[dim] == 1:  # all positions alike
            view = [1] * x.dim()
            view[dim] = self.count
            return counted * self.sizes(x).view(view)
        return counted.sum(dim, keepdim=True) if self.index is None else self._add(counted, dim)

    def _add(self, x: Tensor, dim: int) -> Tensor:
        assert self.index is not None
        if must_decompose(x):
            return _empty(x, dim, self.count).index_add(dim, self.index, x)
        if self.segments is not None:
            return self.segments.total(x, dim)
        added: Tensor = _Add.apply(x, self.index, dim, self.count)  # type: ignore[no-untyped-call]
        return added


class _Add(torch.autograd.Function):
    """The sum over each group, added up in float64: the elements come one after the other."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, dim: int, count: int) -> Tensor:
        if x.device.type == "mps":  # which has no float64
            return _empty(x, dim, count).index_add_(dim, index, x)
        added = _empty(x, dim, count, torch.float64)
        rows = max(1, CHUNK * x.shape[dim] // max(1, x.numel()))
        for start in range(0, x.shape[dim], rows):
            piece = x.narrow(dim, start, min(rows, x.shape[dim] - start))
            added.index_add_(dim, index[start : start + rows], piece.double())
        return added.to(x.dtype)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, index, ctx.dim, ctx.count = inputs
        save(ctx, index)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (index,) = saved(ctx)
        return gradients[0].index_select(ctx.dim, index), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> Tensor:
        (index,) = saved(ctx)
        return _empty(dx, ctx.dim, ctx.count).index_add(ctx.dim, index, dx)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        def one_at_a_time(x: Tensor, index: Tensor, dim: int, count: int) -> Tensor:
            return _empty(x, dim, count).index_add(dim, index, x)

        mapped = torch.vmap(one_at_a_time, in_dims, randomness=info.randomness)
        return mapped(*inputs), 0


def demand_in_range(index: Tensor, count: int, what: str, among: str) -> None:
    """Raise `IndexError` for numbers that name none of `count` groups or nodes, or for more of
    them than there is memory, where looking does not cost a wait."""
    if (
        torch.compiler.is_compiling()
        or not is_plain_tensor(index)
        or is_traced()
        or not index.numel()
    ):
        return
    if count > MOST:
        raise IndexError(f"{what} go up to {count - 1}: no memory holds as many {among}")
    low, high = map(int, torch.aminmax(index))
    if low < 0 or high >= count:
        raise IndexError(f"{what} run from {low} to {high}, and the {among} from 0 to {count - 1}")


def _empty(x: Tensor, dim: int, count: int, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros for each group."""
    shape = list(x.shape)
    shape[dim] = count
    return x.new_zeros(shape, dtype=dtype)
