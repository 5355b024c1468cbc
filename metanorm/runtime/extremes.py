"""The largest value of each window; equal ones share the gradient, as in other pools.

A sliding maximum does not count how many elements of a window are the largest. A stable sort does:
equal values are adjacent in it, and those of one window are a run from the first to the last.
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
    """The maximum of each window, `slide(x, dim)`, with a gradient that equal values share.

    `holding` slides over the windows that contain a position. If one of them is NaN, or its
    gradient is not finite, the gradient is NaN, as that of `amax` is. Under torch.compile, one of
    the equal values gets all of it.
    """
    if must_decompose(x):
        return slide(x, dim)
    largest: Tensor = _Largest.apply(x, dim, slide, holding)  # type: ignore[no-untyped-call]
    return largest


class _Runs(NamedTuple):
    """The largest values of each window, as a run of positions in sorted order."""

    order: Tensor  # positions in sorted order
    rank: Tensor  # of each position in that order
    first: Tensor  # rank, of each run
    last: Tensor  # rank

    @property
    def lengths(self) -> Tensor:
        return self.last - self.first + 1


def _runs(x: Tensor, dim: int, slide: Slide) -> _Runs:
    order, rank = _order_and_rank(x, dim)
    last = slide(rank.float(), dim).long()  # exact: an axis is no longer than 2^24
    back_order, back_rank = _order_and_rank(x.flip(dim), dim)
    earliest = slide(back_rank.flip(dim).float(), dim).long()
    position = x.shape[dim] - 1 - back_order.gather(dim, earliest)
    return _Runs(order, rank, rank.gather(dim, position), last)


def _order_and_rank(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """The stable order of positions by their values, and its inverse."""
    order = x.argsort(dim=dim, stable=True)
    return order, order.argsort(dim)


def _to_double(x: Tensor) -> Tensor:
    return x if x.device.type == "mps" else x.double()  # mps has no float64


class _Largest(torch.autograd.Function):
    """The derivatives are means over runs, or sums over all runs that contain a position."""

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
        is_invalid = ctx.slide(x.detach(), dim).isnan() | ~gradients[0].isfinite()
        share = _to_double(gradients[0].masked_fill(is_invalid, 0)) / runs.lengths
        is_single = runs.lengths == 1
        zeros = torch.zeros_like(share)
        single_gradient = zeros.scatter_add(dim, runs.last, share.masked_fill(~is_single, 0))
        # A run of several positions adds its share at its first position, and subtracts it behind
        # its last: the running total has it in between.
        shares_of_runs = share.masked_fill(is_single, 0)
        steps = torch.cat([zeros, zeros.narrow(dim, 0, 1)], dim).scatter_add(
            dim, runs.first, shares_of_runs
        )
        steps = steps.scatter_add(dim, runs.last + 1, -shares_of_runs)
        run_gradient = steps.cumsum(dim).narrow(dim, 0, x.shape[dim])
        x_gradient = (single_gradient + run_gradient).gather(dim, runs.rank).to(x.dtype)
        touches_invalid = ctx.holding(is_invalid.float(), dim) > 0
        return x_gradient.masked_fill(touches_invalid, torch.nan), None, None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: None) -> Tensor:
        (x,), dim = saved(ctx), ctx.dim
        runs = _runs(x.detach(), dim, ctx.slide)
        ordered = _to_double(dx).gather(dim, runs.order)
        zero = torch.zeros_like(ordered.narrow(dim, 0, 1))
        totals = torch.cat([zero, ordered.cumsum(dim)], dim)
        run_sums = totals.gather(dim, runs.last + 1) - totals.gather(dim, runs.first)
        single = ordered.gather(dim, runs.last)
        change = torch.where(runs.lengths == 1, single, run_sums / runs.lengths)
        return change.to(x.dtype).contiguous()
