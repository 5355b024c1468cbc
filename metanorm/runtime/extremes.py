"""The largest value of each window, of which equal ones share the gradient, as in other pools.

How many of a window are the largest is not known from the parts that it is made of. It is from the
order of all positions: those of one value stand side by side there, and those of a window between
the first and the last of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import must_decompose

# For each window along a dimension, its largest value.
Slide = Callable[[Tensor, int], Tensor]


def shared_largest(x: Tensor, dim: int, slide: Slide, holding: Slide) -> Tensor:
    """What `slide` makes of x, with a gradient that equal values share.

    `holding` slides over the windows that hold a position. Where one of them is NaN, or its
    gradient is not finite, the gradient is NaN, as that of `amax` is. Under torch.compile, one of
    the equal values gets it.
    """
    if must_decompose(x):
        return slide(x, dim)
    largest: Tensor = _Largest.apply(x, dim, slide, holding)  # type: ignore[no-untyped-call]
    return largest


class _Runs(NamedTuple):
    """The largest values of each window, as a run of the positions in the order of their values."""

    order: Tensor  # the positions
    rank: Tensor  # where each position stands in the order
    first: Tensor  # of each run
    last: Tensor

    @property
    def lengths(self) -> Tensor:
        return self.last - self.first + 1


def _runs(x: Tensor, dim: int, slide: Slide) -> _Runs:
    order, rank = _ranked(x, dim)
    last = slide(rank.float(), dim).long()  # exact: an axis is no longer than 2^24
    back_order, back_rank = _ranked(x.flip(dim), dim)
    earliest = slide(back_rank.flip(dim).float(), dim).long()
    position = x.shape[dim] - 1 - back_order.gather(dim, earliest)
    return _Runs(order, rank, rank.gather(dim, position), last)


def _ranked(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The positions in the order of their values, equal ones in their own; and its inverse."""
    order = x.argsort(dim=dim, stable=True)
    return order, order.argsort(dim)


def _wide(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # mps has no float64


class _Largest(torch.autograd.Function):
    """The derivatives are means over runs, or sums over all runs that hold a position."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, dim: int, slide: Slide, holding: Slide) -> Tensor:
        return slide(x, dim).clone(memory_format=torch.contiguous_format)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dim, ctx.slide, ctx.holding = inputs
        save(ctx, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (x,), dim = saved(ctx), ctx.dim
        runs = _runs(x.detach(), dim, ctx.slide)
        odd = ctx.slide(x.detach(), dim).isnan() | ~gradients[0].isfinite()
        share = _wide(gradients[0].masked_fill(odd, 0)) / runs.lengths
        alone = runs.lengths == 1
        zeros = torch.zeros_like(share)
        by_rank = zeros.scatter_add(dim, runs.last, share.masked_fill(~alone, 0))
        # What a run of several shares is added from its first position on, and taken off again
        # behind its last.
        many = share.masked_fill(alone, 0)
        steps = torch.cat([zeros, zeros.narrow(dim, 0, 1)], dim).scatter_add(dim, runs.first, many)
        steps = steps.scatter_add(dim, runs.last + 1, -many)
        spread = steps.cumsum(dim).narrow(dim, 0, x.shape[dim])
        by_x = (by_rank + spread).gather(dim, runs.rank).to(x.dtype)
        touched = ctx.holding(odd.float(), dim) > 0
        return by_x.masked_fill(touched, torch.nan), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Tensor:
        (x,), dim = saved(ctx), ctx.dim
        runs = _runs(x.detach(), dim, ctx.slide)
        ordered = _wide(dx).gather(dim, runs.order)
        nothing = torch.zeros_like(ordered.narrow(dim, 0, 1))
        before = torch.cat([nothing, ordered.cumsum(dim)], dim)
        together = before.gather(dim, runs.last + 1) - before.gather(dim, runs.first)
        alone = ordered.gather(dim, runs.last)
        change = torch.where(runs.lengths == 1, alone, together / runs.lengths)
        return change.to(x.dtype).contiguous()
