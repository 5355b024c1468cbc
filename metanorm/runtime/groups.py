"""Statistics over the groups that an index names: graphs of a batch, classes, domains."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.arguments import GROUP_LABELS, demand_count, demand_whole
from metanorm.runtime.group_pools import GroupPools, over_groups
from metanorm.runtime.mean_and_variance import CHUNK
from metanorm.runtime.processes.sums import PowerSums, broadcast_centre, deviations_of
from metanorm.runtime.saving import save, saved
from metanorm.runtime.segments import Segments, segments_of
from metanorm.runtime.tensors import is_plain_tensor, is_traced, must_decompose
from metanorm.runtime.tracing import is_tracing

LABEL_DTYPES = (torch.int64, torch.int32)
MAX_BYTES = 1 << 48  # bytes that a process can have


def demand_labels(index: Tensor, what: str) -> None:
    """Raise `TypeError` for labels that are not integers of 32 or 64 bits."""
    demand_whole(index, what)
    if index.dtype not in LABEL_DTYPES:
        raise TypeError(f"{what} must be int64 or int32, got {index.dtype}: convert them first")


class Groups:
    """Positions along a dimension, grouped by an index.

    `index` has the group number of each position, in any order; `None` stands for a single group.
    `count` is the number of groups, of which some may be empty. Without it, the number is read from
    the index, which synchronizes with a GPU and which `torch.compile` cannot trace.

    `what` and `among` are the names of labels and of groups in errors. `fresh` says that labels are
    new in each call, so that nothing about them is cached.

    Raises `TypeError` for labels or a number of groups that are not integers, and on the CPU
    `IndexError` for labels out of range.
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
        elif is_tracing() and length:  # the number stays symbolic
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
        """The value of its group for each position; that of a single group broadcasts."""
        if self.index is None:
            return value
        if self.segments is not None and not must_decompose(value):
            return self.segments.spread(value, dim)
        return value.index_select(dim, self.index)

    # The statistics of each group and over the dimensions `also`; `dim` then enumerates groups.
    total = over_groups(GroupPools.total)
    mean = over_groups(GroupPools.mean)
    moments = over_groups(GroupPools.moments)
    mean_square = over_groups(GroupPools.mean_square)
    largest = over_groups(GroupPools.largest)
    smallest = over_groups(GroupPools.smallest)

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
        return GroupPools(self, x.dim(), dim, also, where, weight).norm(x, order)

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
        deviations = self._deviations(x, dim, also, where, weight, about)
        powers = (deviations, deviations.square())
        return PowerSums(*(self.total(power, dim, also, None, weight) for power in powers))

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
        deviations = self._deviations(x, dim, also, where, weight, about)
        powers = deviations if power == 1 else deviations.square()
        return self.total(powers, dim, also, None, weight)

    def ties(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int] = (),
        where: Tensor | None = None,
        about: Tensor | None = None,
    ) -> Tensor:
        """How many values of each group are equal to the one of `about`, in float64.

        `about` broadcasts against the results.
        """
        assert about is not None
        dim = dim % x.dim()
        x = self.expanded(x, dim)
        wanted = broadcast_centre(about, x, also, keepdim=False)
        assert wanted is not None
        equal = (x == (self.spread(wanted, dim) if wanted.dim() else wanted)).double()
        return self.total(equal, dim, also, where)

    def _deviations(
        self,
        x: Tensor,
        dim: int,
        also: Iterable[int],
        where: Tensor | None,
        weight: Tensor | None,
        about: Tensor | None,
    ) -> Tensor:
        dim = dim % x.dim()
        x = self.expanded(x, dim)
        centre = broadcast_centre(about, x, also, keepdim=False)
        if centre is not None and centre.dim():
            centre = self.spread(centre, dim)
        return deviations_of(x, centre, where, weight)

    def expanded(self, x: Tensor, dim: int) -> Tensor:
        """The tensor with all positions; a value of a single group has length one."""
        if x.shape[dim] == self.length:
            return x
        shape = list(x.shape)
        shape[dim] = self.length
        return x.expand(shape)

    def sum_along(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each group along one dimension."""
        if self.index is None:
            return x.sum(dim, keepdim=True)
        if must_decompose(x):
            return _zeros_for_groups(x, dim, self.count).index_add(dim, self.index, x)
        if self.segments is not None:
            return self.segments.total(x, dim)
        total: Tensor = _GroupSum.apply(x, self.index, dim, self.count)  # type: ignore[no-untyped-call]
        return total


class _GroupSum(torch.autograd.Function):
    """The sum over each group, in float64: elements are added one by one, which rounds often."""

    @staticmethod
    def forward(x: Tensor, index: Tensor, dim: int, count: int) -> Tensor:
        if x.device.type == "mps":  # which has no float64
            return _zeros_for_groups(x, dim, count).index_add_(dim, index, x)
        total = _zeros_for_groups(x, dim, count, torch.float64)
        chunk = max(1, CHUNK * x.shape[dim] // max(1, x.numel()))
        for start in range(0, x.shape[dim], chunk):
            values = x.narrow(dim, start, min(chunk, x.shape[dim] - start))
            total.index_add_(dim, index[start : start + chunk], values.double())
        return total.to(x.dtype)

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
        return _zeros_for_groups(dx, ctx.dim, ctx.count).index_add(ctx.dim, index, dx)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[Tensor, int]:
        def one_at_a_time(x: Tensor, index: Tensor, dim: int, count: int) -> Tensor:
            return _zeros_for_groups(x, dim, count).index_add(dim, index, x)

        mapped = torch.vmap(one_at_a_time, in_dims, randomness=info.randomness)
        return mapped(*inputs), 0


def demand_in_range(index: Tensor, count: int, what: str, among: str) -> None:
    """Raise `IndexError` for labels out of `range(count)`, and for more groups than memory holds.

    Labels on a GPU are not checked, as reading them would synchronize.
    """
    if (
        torch.compiler.is_compiling()
        or not is_plain_tensor(index)
        or is_traced()
        or not index.numel()
    ):
        return
    if count > MAX_BYTES:
        raise IndexError(f"{what} go up to {count - 1}: no memory holds as many {among}")
    low, high = map(int, torch.aminmax(index))
    if low < 0 or high >= count:
        raise IndexError(f"{what} run from {low} to {high}, and the {among} from 0 to {count - 1}")


def _zeros_for_groups(x: Tensor, dim: int, count: int, dtype: torch.dtype | None = None) -> Tensor:
    """Zeros in the shape of `x`, with one position for each group along `dim`."""
    shape = list(x.shape)
    shape[dim] = count
    return x.new_zeros(shape, dtype=dtype)
