"""Pools of what is near: windows around each position, and the past of each position."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.extremes import Slide, shared_largest
from metanorm.runtime.overlapping import PoolMatrix
from metanorm.runtime.saving import save, saved
from metanorm.runtime.sliding import (
    EVERYTHING,
    padded,
    sliding_max,
    sliding_squares,
    sliding_sum,
)
from metanorm.runtime.tensors import must_decompose


class Window(PoolMatrix):
    """Centred windows; an even one reaches one further back than ahead.

    `edge` says what is beyond the border: nothing (`truncate`), zeros that count (`zero`), or the
    outermost element over and over (`replicate`). With weights, zeros weigh nothing.

    Raises `ValueError` for a width below one.
    """

    def __init__(self, width: int, edge: str = "truncate") -> None:
        if width < 1:
            raise ValueError(f"a window must hold at least 1 position, but its width is {width}")
        self.back, self.ahead, self.edge = width // 2, (width - 1) // 2, edge

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each window."""
        added = sliding_sum(x, dim, *self._reach(x, dim))
        if self.edge != "replicate" or not x.shape[dim]:
            return added
        before, behind = self._beyond(x, dim)
        first, last = _ends(x, dim)
        return added + _times(before, first) + _times(behind, last)

    def transposed(self, x: Tensor, dim: int) -> Tensor:
        """For each position, the sum over all windows that hold it."""
        back, ahead = self._reach(x, dim)
        added = sliding_sum(x, dim, ahead, back)
        length = x.shape[dim]
        if self.edge != "replicate" or not length:
            return added
        before, behind = self._beyond(x, dim)
        first, last = (_times(count, x).sum(dim, keepdim=True) for count in (before, behind))
        room = length - 1
        return added + padded(first, dim, 0, room) + padded(last, dim, room, 0)

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each window's mean."""
        if not x.shape[dim]:
            return x
        if must_decompose(x):
            return self.squares_about(x, mean, weight, dim)
        squares: Tensor = _Squares.apply(x, mean, weight, self, dim)  # type: ignore[no-untyped-call]
        return squares

    def squares_about(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The same, without a derivative of its own."""
        squares = sliding_squares(x, mean, weight, dim, *self._reach(x, dim))
        if self.edge == "replicate":
            heavy = weight.expand_as(x)
            for count, end, own in zip(self._beyond(x, dim), _ends(x, dim), _ends(heavy, dim)):
                squares = squares + _times(count, own * (end - mean).square())
        return squares

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each window; equal ones share the gradient."""
        back, ahead = self._reach(x, dim)
        slide: Slide = lambda x, dim: sliding_max(x, dim, back, ahead)  # noqa: E731
        holding: Slide = lambda x, dim: sliding_max(x, dim, ahead, back)  # noqa: E731
        return shared_largest(x, dim, slide, holding) if x.shape[dim] else x

    def outside(self, like: Tensor, length: int) -> Tensor | None:
        """How many zeros beyond the border belong to each window."""
        if self.edge != "zero":
            return None
        before, behind = self._overlap(like, length)
        return before + behind

    def _reach(self, x: Tensor, dim: int) -> tuple[int, int]:
        """How far windows go, as far as there is anything.

        Of the axes of a program that is recorded nobody knows how long they are.
        """
        if self.back == EVERYTHING or must_decompose(x):
            return self.back, self.ahead
        return min(self.back, x.shape[dim] - 1), min(self.ahead, x.shape[dim] - 1)

    def _overlap(self, like: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """How far the window of each position goes beyond either border: shape [length]."""
        position = torch.arange(length, dtype=like.dtype, device=like.device)
        before = (self.back - position).clamp_min(0)
        return before, (self.ahead + position - (length - 1)).clamp_min(0)

    def _beyond(self, x: Tensor, dim: int) -> list[Tensor]:
        """The same, lined up with the dimension of a tensor."""
        shape = [1] * x.dim()
        shape[dim] = x.shape[dim]
        return [count.view(shape) for count in self._overlap(x, x.shape[dim])]


class Causal(Window):
    """Each position and all before it; with a width, that many positions in all.

    Raises `ValueError` for a width below one.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__(1 if width is None else width)
        self.back, self.ahead = (EVERYTHING if width is None else width - 1), 0


class _Squares(torch.autograd.Function):
    """Squares about a mean, of which x, the mean and the weight are kept and nothing else.

    The derivatives of a sum of w (x - m)^2 are sums over windows as well, or over all windows that
    hold a position.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, mean: Tensor, weight: Tensor, window: Window, dim: int) -> Tensor:
        return window.squares_about(x, mean, weight, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, mean, weight, ctx.window, ctx.dim = inputs
        save(ctx, x, mean, weight)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        x, mean, weight = saved(ctx)
        (g,), window, dim = gradients, ctx.window, ctx.dim
        wanted = ctx.needs_input_grad
        x, mean = _nearer(x, mean, dim)
        by_x = by_mean = by_weight = None
        if wanted[0] or wanted[2]:
            once, with_mean = window.transposed(g, dim), window.transposed(g * mean, dim)
        if wanted[0]:
            by_x = 2 * weight * (x * once - with_mean)
        if wanted[1]:
            heavy = weight.expand_as(x)
            by_mean = -2 * g * (window.total(heavy * x, dim) - mean * window.total(heavy, dim))
        if wanted[2]:
            squared = window.transposed(g * mean.square(), dim)
            by_weight = x.square() * once - 2 * x * with_mean + squared
            by_weight = by_weight.sum_to_size(weight.shape)
        return by_x, by_mean, by_weight, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, mean, weight = saved(ctx)
        x, mean = _nearer(x, mean, ctx.dim)
        dx, dmean, dweight = tangents[:3]
        window: Window = ctx.window

        def total(terms: Tensor) -> Tensor:
            return window.total(terms.expand_as(x), ctx.dim)

        change = torch.zeros_like(x)
        if dx is not None:
            change = change + 2 * (total(weight * x * dx) - mean * total(weight * dx))
        if dmean is not None:
            change = change - 2 * dmean * (total(weight * x) - mean * total(weight))
        if dweight is not None:
            change = change + total(dweight * x.square())
            change = change - 2 * mean * total(dweight * x) + mean.square() * total(dweight)
        return change


def _nearer(x: Tensor, mean: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Both from the mean of the means: their differences are the same, and rounded less."""
    near = torch.where(torch.isfinite(mean), mean, 0).mean(dim, keepdim=True).detach()
    return x - near, mean - near


def _times(count: Tensor, x: Tensor) -> Tensor:
    """So many times x; nothing at all of what is there no time, be it NaN."""
    return torch.where(count > 0, count * x, 0)


def _ends(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
