"""Pools of neighbouring positions: windows around each, and the past of each."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.extremes import Slide, shared_largest
from metanorm.runtime.overlapping import PoolMatrix
from metanorm.runtime.padding import padded
from metanorm.runtime.saving import save, saved
from metanorm.runtime.sliding import (
    EVERYTHING,
    sliding_max,
    sliding_squares,
    sliding_sum,
)
from metanorm.runtime.tensors import must_decompose


class Window(PoolMatrix):
    """Centred windows; an even one reaches one further back than ahead.

    `edge` is the padding beyond the ends of the axis: none (`truncate`), zeros that count (`zero`),
    or the outermost element (`replicate`). With weights, padded zeros have weight zero.

    Raises `ValueError` for a width below one.
    """

    def __init__(self, width: int, edge: str = "truncate") -> None:
        if width < 1:
            raise ValueError(f"a window must hold at least 1 position, but its width is {width}")
        self.back, self.ahead, self.edge = width // 2, (width - 1) // 2, edge

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each window."""
        total = sliding_sum(x, dim, *self._clamped_reach(x, dim))
        if self.edge != "replicate" or not x.shape[dim]:
            return total
        before, after = self._overhang_along(x, dim)
        first, last = _ends(x, dim)
        return total + _repeated(before, first) + _repeated(after, last)

    def transposed(self, x: Tensor, dim: int) -> Tensor:
        """For each position, the sum over all windows that contain it."""
        back, ahead = self._clamped_reach(x, dim)
        total = sliding_sum(x, dim, ahead, back)
        length = x.shape[dim]
        if self.edge != "replicate" or not length:
            return total
        before, after = self._overhang_along(x, dim)
        first, last = (_repeated(count, x).sum(dim, keepdim=True) for count in (before, after))
        padding = length - 1
        return total + padded(first, dim, 0, padding) + padded(last, dim, padding, 0)

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each window's mean."""
        if not x.shape[dim]:
            return x
        if must_decompose(x):
            return self.squares_about(x, mean, weight, dim)
        squares: Tensor = _Squares.apply(x, mean, weight, self, dim)  # type: ignore[no-untyped-call]
        return squares

    def squares_about(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The same, differentiated operation by operation."""
        squares = sliding_squares(x, mean, weight, dim, *self._clamped_reach(x, dim))
        if self.edge == "replicate":
            weights = weight.expand_as(x)
            for count, end, end_weight in zip(
                self._overhang_along(x, dim), _ends(x, dim), _ends(weights, dim)
            ):
                squares = squares + _repeated(count, end_weight * (end - mean).square())
        return squares

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each window; equal ones share the gradient."""
        back, ahead = self._clamped_reach(x, dim)
        slide: Slide = lambda x, dim: sliding_max(x, dim, back, ahead)  # noqa: E731
        slide_transposed: Slide = lambda x, dim: sliding_max(x, dim, ahead, back)  # noqa: E731
        return shared_largest(x, dim, slide, slide_transposed) if x.shape[dim] else x

    def outside(self, like: Tensor, length: int) -> Tensor | None:
        """How many padded zeros each window has."""
        if self.edge != "zero":
            return None
        before, after = self._overhang(like, length)
        return before + after

    def _clamped_reach(self, x: Tensor, dim: int) -> tuple[int, int]:
        """How far windows reach back and ahead, at most to the ends of the axis.

        In a program that is recorded, lengths are symbolic and do not limit it.
        """
        if self.back == EVERYTHING or must_decompose(x):
            return self.back, self.ahead
        return min(self.back, x.shape[dim] - 1), min(self.ahead, x.shape[dim] - 1)

    def _overhang(self, like: Tensor, length: int) -> tuple[Tensor, Tensor]:
        """By how much the window of each position exceeds each end of the axis: shape [length]."""
        position = torch.arange(length, dtype=like.dtype, device=like.device)
        before = (self.back - position).clamp_min(0)
        return before, (self.ahead + position - (length - 1)).clamp_min(0)

    def _overhang_along(self, x: Tensor, dim: int) -> list[Tensor]:
        """The same, as views along a dimension of a tensor."""
        shape = [1] * x.dim()
        shape[dim] = x.shape[dim]
        return [count.view(shape) for count in self._overhang(x, x.shape[dim])]


class Causal(Window):
    """Each position and all before it; with a width, that many positions in all.

    Raises `ValueError` for a width below one.
    """

    def __init__(self, width: int | None = None) -> None:
        super().__init__(1 if width is None else width)
        self.back, self.ahead = (EVERYTHING if width is None else width - 1), 0


class _Squares(torch.autograd.Function):
    """Squares about a mean; it saves x, the mean and the weight, and nothing else.

    The derivatives of a sum of w (x - m)^2 are sums over windows, or over all windows that contain
    a position.
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
        needed = ctx.needs_input_grad
        x, mean = _centred(x, mean, dim)
        x_gradient = mean_gradient = weight_gradient = None
        if needed[0] or needed[2]:
            transposed, transposed_mean = (
                window.transposed(g, dim),
                window.transposed(g * mean, dim),
            )
        if needed[0]:
            x_gradient = 2 * weight * (x * transposed - transposed_mean)
        if needed[1]:
            weights = weight.expand_as(x)
            mean_gradient = (
                -2 * g * (window.total(weights * x, dim) - mean * window.total(weights, dim))
            )
        if needed[2]:
            transposed_square = window.transposed(g * mean.square(), dim)
            weight_gradient = x.square() * transposed - 2 * x * transposed_mean + transposed_square
            weight_gradient = weight_gradient.sum_to_size(weight.shape)
        return x_gradient, mean_gradient, weight_gradient, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, mean, weight = saved(ctx)
        x, mean = _centred(x, mean, ctx.dim)
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


def _centred(x: Tensor, mean: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Both minus the mean of the means: their differences are the same, and round less."""
    centre = torch.where(torch.isfinite(mean), mean, 0).mean(dim, keepdim=True).detach()
    return x - centre, mean - centre


def _repeated(count: Tensor, x: Tensor) -> Tensor:
    """`count * x`; zero where the count is zero, also for NaN."""
    return torch.where(count > 0, count * x, 0)


def _ends(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    return x.narrow(dim, 0, 1), x.narrow(dim, x.shape[dim] - 1, 1)
