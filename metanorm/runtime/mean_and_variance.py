"""Moments over dimensions, and their derivatives, with nothing kept but x and narrow values.

torch has `var_mean`, which on CPUs takes many times as long as the two passes that it saves, and
whose derivative is slower still; and norms, which on CPUs add up without care, and have no second
derivative at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import is_transformed, must_decompose

# Squares are taken of this many elements at a time: few enough to stay in a cache, so that the
# second pass makes no tensor of the size of x.
CHUNK = 1 << 20


class Moments(NamedTuple):
    """Mean and biased variance of each pool."""

    mean: Tensor
    var: Tensor


def plain_moments(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Moments:
    """Mean and biased variance over `dims`, of which there is at least one; none is empty."""
    if not torch.compiler.is_compiling() and _is_special(x):  # which may have no `var_mean`
        average = x.mean(dims, keepdim=True)
        variance = (x - average).square().mean(dims, keepdim=keepdim)
        return Moments(average if keepdim else average.squeeze(dims), variance)
    if torch.compiler.is_compiling() and not (torch.compiler.is_exporting() or is_transformed()):
        average, variance = _Derived.apply(x, dims)  # type: ignore[no-untyped-call]
    elif must_decompose(x) or x.device.type != "cpu":
        variance, average = torch.var_mean(x, dims, correction=0, keepdim=keepdim)
        return Moments(average, variance)
    else:
        average, variance = _Moments.apply(x, dims)  # type: ignore[no-untyped-call]
    if not keepdim:
        average, variance = average.squeeze(dims), variance.squeeze(dims)
    return Moments(average, variance)


def plain_mean_square(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The mean of squares over `dims`, of which there is at least one; none is empty."""
    if must_decompose(x):
        return x.square().mean(dims, keepdim=keepdim)
    squares: Tensor = _MeanSquare.apply(x, dims)  # type: ignore[no-untyped-call]
    return squares if keepdim else squares.squeeze(dims)


def _is_special(x: Tensor) -> bool:
    return not (type(x) is Tensor or type(x) is nn.Parameter)


class _Derived(torch.autograd.Function):
    """For `torch.compile`: torch's own derivative of a variance takes the mean once more.

    Without what `torch.func` asks for, which `torch.compile` does not take.
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        variance, average = torch.var_mean(x, dims, correction=0, keepdim=True)
        return average, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        ctx.save_for_backward(x, output[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        x, average = saved(ctx)
        by_mean, by_var = gradients
        count = count_of(x, ctx.dims)
        return (x - average) * (by_var * (2 / count)) + by_mean / count, None


class _Moments(_Derived):
    """Two passes; the dimensions stay, with length one.

    The second pass also adds up what the rounded mean has left over, and takes it into account
    (Chan, Golub & LeVeque, 1983, "Algorithms for computing the sample variance").
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        average = x.mean(dims, keepdim=True)
        left, squares = _residuals(x, average, dims)
        return average.add_(left), squares.sub_(left.square()).clamp_min_(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        save(ctx, x, output[0])

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> tuple[Tensor, Tensor]:
        x, average = saved(ctx)
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


class _MeanSquare(torch.autograd.Function):
    """One pass; the dimensions stay, with length one."""

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> Tensor:
        return _mean_of_squares(x, dims)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, ctx.dims = inputs
        save(ctx, x)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        (x,) = saved(ctx)
        return x * (gradients[0] * (2 / count_of(x, ctx.dims))), None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> Tensor:
        (x,) = saved(ctx)
        change: Tensor = 2 * (x * dx).mean(ctx.dims, keepdim=True)
        return change

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, dims: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        def one_at_a_time(one: Tensor) -> Tensor:
            return one.square().mean(dims, keepdim=True)

        mapped = torch.vmap(one_at_a_time, in_dims[:1], randomness=info.randomness)
        return mapped(x), 0


def count_of(x: Tensor, dims: tuple[int, ...]) -> int:
    """How many elements each pool over `dims` has."""
    count = 1
    for d in dims:  # not `math.prod`, which torch.compile cannot follow
        count *= x.shape[d]
    return count


def _residuals(x: Tensor, average: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The means of x and of its squares about a rounded mean.

    Everything is divided by the root of the count before it is squared, so that no sum is larger
    than the mean that it stands for.
    """
    cut, factor = _where_to_cut(x), count_of(x, dims) ** -0.5
    pooled = cut in {d % x.dim() for d in dims}
    sums, squares = [], []
    for start, piece, room in _pieces(x, cut):
        centre = average if pooled else average.narrow(cut, start, piece.shape[cut])
        torch.sub(piece, centre, out=room).mul_(factor)
        sums.append(room.sum(dims, keepdim=True))
        squares.append(room.square_().sum(dims, keepdim=True))
    return joined(sums, cut, pooled).mul_(factor), joined(squares, cut, pooled)


def _mean_of_squares(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    cut, factor = _where_to_cut(x), count_of(x, dims) ** -0.5
    pooled = cut in {d % x.dim() for d in dims}
    squares = []
    for _, piece, room in _pieces(x, cut):
        torch.mul(piece, factor, out=room)
        squares.append(room.square_().sum(dims, keepdim=True))
    return joined(squares, cut, pooled)


def _pieces(x: Tensor, cut: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Pieces of x along a dimension: where each begins, itself, and room for as much."""
    length = min(max(1, CHUNK * x.shape[cut] // x.numel()), x.shape[cut])
    room = torch.empty_like(x.narrow(cut, 0, length))
    for start in range(0, x.shape[cut], length):
        piece = x.narrow(cut, start, min(length, x.shape[cut] - start))
        yield start, piece, room.narrow(cut, 0, piece.shape[cut])


def _where_to_cut(x: Tensor) -> int:
    """The first dimension whose single positions are small enough; else the longest."""
    for d, length in enumerate(x.shape):
        if length > 1 and x.numel() // length <= CHUNK:
            return d
    return max(range(x.dim()), key=lambda d: x.shape[d])


def joined(parts: list[Tensor], cut: int, pooled: bool) -> Tensor:
    """The sums of pieces along the dimension `cut`, added up where that dimension is pooled."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack(parts).sum(0) if pooled else torch.cat(parts, cut)
