"""Mean and variance over dimensions, and their derivative, with nothing kept but x and the mean.

torch has `var_mean`, which on CPUs takes many times as long as the two passes that it saves, and
whose derivative is slower still.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.rescaling import rescale

# Squares are taken of this many elements at a time: few enough to stay in a cache, so that the
# second pass makes no tensor of the size of x.
CHUNK = 1 << 20


class Moments(NamedTuple):
    """Mean and biased variance of each pool."""

    mean: Tensor
    var: Tensor


def plain_moments(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Moments:
    """Mean and biased variance over `dims`, of which there is at least one; none is empty."""
    if torch.compiler.is_compiling() or x.device.type != "cpu":
        variance, average = torch.var_mean(x, dims, correction=0, keepdim=keepdim)
        return Moments(average, variance)
    average, variance = _Moments.apply(x, dims)  # type: ignore[no-untyped-call]
    if not keepdim:
        average, variance = average.squeeze(dims), variance.squeeze(dims)
    return Moments(average, variance)


class _Moments(torch.autograd.Function):
    """Two passes; the dimensions stay, with length one."""

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        average = x.mean(dims, keepdim=True)
        return average, _squares(x, average, dims) / _count(x, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        ctx.save_for_backward(x, output[0])
        ctx.save_for_forward(x, output[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        x, average = ctx.saved_tensors
        by_mean, by_var = gradients
        count = _count(x, ctx.dims)
        return rescale(x, centre=average, scale=by_var * (2 / count), shift=by_mean / count), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> tuple[Tensor, Tensor]:
        x, average = ctx.saved_tensors
        change = 2 * ((x - average) * dx).mean(ctx.dims, keepdim=True)
        return dx.mean(ctx.dims, keepdim=True), change

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, dims: tuple[int, ...]
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        def both(one: Tensor) -> tuple[Tensor, Tensor]:
            variance, average = torch.var_mean(one, dims, correction=0, keepdim=True)
            return average, variance

        mapped = torch.vmap(both, in_dims[:1], randomness=info.randomness)
        return mapped(x), (0, 0)


def _count(x: Tensor, dims: tuple[int, ...]) -> int:
    return math.prod(x.shape[d] for d in dims)


def _squares(x: Tensor, average: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The sum of squares about the mean, by pieces of the first dimension that can be cut."""
    cut = next((d for d, length in enumerate(x.shape) if length > 1), 0)
    length = max(1, CHUNK * x.shape[cut] // x.numel())
    if length >= x.shape[cut]:
        return (x - average).square_().sum(dims, keepdim=True)
    pooled = cut in {d % x.dim() for d in dims}
    room = torch.empty_like(x.narrow(cut, 0, length))
    sums: list[Tensor] = []
    for start in range(0, x.shape[cut], length):
        piece = x.narrow(cut, start, min(length, x.shape[cut] - start))
        about = average if pooled else average.narrow(cut, start, piece.shape[cut])
        squares = room.narrow(cut, 0, piece.shape[cut])
        torch.sub(piece, about, out=squares)
        sums.append(squares.square_().sum(dims, keepdim=True))
    return torch.stack(sums).sum(0) if pooled else torch.cat(sums, cut)
