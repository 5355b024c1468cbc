"""Moments over dimensions; their derivatives save nothing but x and narrow values.

`torch.var_mean` on CPUs takes many times as long as two passes over the data, and its derivative is
slower still. `torch.linalg.vector_norm` on CPUs adds up with large rounding errors, and has no
second derivative at zero.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import is_transformed, must_decompose

# Elements that are squared at a time: few enough for a cache, so that the second pass makes no
# tensor of the size of x.
CHUNK = 1 << 20


class Moments(NamedTuple):
    """Mean and biased variance of each pool."""

    mean: Tensor
    var: Tensor


def plain_moments(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Moments:
    """Mean and biased variance over `dims`, of which there is at least one; none is empty."""
    if not torch.compiler.is_compiling() and _is_subclass(x):  # a subclass may have no `var_mean`
        mean = x.mean(dims, keepdim=True)
        variance = (x - mean).square().mean(dims, keepdim=keepdim)
        return Moments(mean if keepdim else mean.squeeze(dims), variance)
    if torch.compiler.is_compiling() and not (torch.compiler.is_exporting() or is_transformed()):
        mean, variance = _CompiledMoments.apply(x, dims)  # type: ignore[no-untyped-call]
    elif must_decompose(x) or x.device.type != "cpu":
        variance, mean = torch.var_mean(x, dims, correction=0, keepdim=keepdim)
        return Moments(mean, variance)
    else:
        mean, variance = _Moments.apply(x, dims)  # type: ignore[no-untyped-call]
    if not keepdim:
        mean, variance = mean.squeeze(dims), variance.squeeze(dims)
    return Moments(mean, variance)


def plain_mean_square(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """The mean of squares over `dims`, of which there is at least one; none is empty."""
    if must_decompose(x):
        return x.square().mean(dims, keepdim=keepdim)
    squares: Tensor = _MeanSquare.apply(x, dims)  # type: ignore[no-untyped-call]
    return squares if keepdim else squares.squeeze(dims)


def _is_subclass(x: Tensor) -> bool:
    return not (type(x) is Tensor or type(x) is nn.Parameter)


class _CompiledMoments(torch.autograd.Function):
    """For `torch.compile`: torch's derivative of a variance would compute the mean again.

    It lacks the methods for `torch.func`, which `torch.compile` does not accept.
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        variance, mean = torch.var_mean(x, dims, correction=0, keepdim=True)
        return mean, variance

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        ctx.save_for_backward(x, output[0])

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        x, mean = saved(ctx)
        mean_gradient, var_gradient = gradients
        count = count_of(x, ctx.dims)
        return (x - mean) * (var_gradient * (2 / count)) + mean_gradient / count, None


class _Moments(_CompiledMoments):
    """Two passes; the dimensions stay, with length one.

    The second pass also sums the deviations from the rounded mean, and corrects both moments by
    them (Chan, Golub & LeVeque, 1983, "Algorithms for computing the sample variance").
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        mean = x.mean(dims, keepdim=True)
        correction, squares = _residuals(x, mean, dims)
        return mean.add_(correction), squares.sub_(correction.square()).clamp_min_(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        save(ctx, x, output[0])

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, _: None) -> tuple[Tensor, Tensor]:
        x, mean = saved(ctx)
        var_tangent = 2 * ((x - mean) * dx).mean(ctx.dims, keepdim=True)
        return dx.mean(ctx.dims, keepdim=True), var_tangent

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, dims: tuple[int, ...]
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        def mean_and_variance(sample: Tensor) -> tuple[Tensor, Tensor]:
            variance, mean = torch.var_mean(sample, dims, correction=0, keepdim=True)
            return mean, variance

        mapped = torch.vmap(mean_and_variance, in_dims[:1], randomness=info.randomness)
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
        tangent: Tensor = 2 * (x * dx).mean(ctx.dims, keepdim=True)
        return tangent

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, dims: tuple[int, ...]
    ) -> tuple[Tensor, int]:
        def mean_square(sample: Tensor) -> Tensor:
            return sample.square().mean(dims, keepdim=True)

        mapped = torch.vmap(mean_square, in_dims[:1], randomness=info.randomness)
        return mapped(x), 0


def count_of(x: Tensor, dims: tuple[int, ...]) -> int:
    """How many elements each pool over `dims` has."""
    count = 1
    for d in dims:  # not `math.prod`, which torch.compile cannot follow
        count *= x.shape[d]
    return count


def _residuals(x: Tensor, mean: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """The mean deviation of x from a rounded mean, and the mean square of the deviations.

    Deviations are divided by the root of the count before they are squared, so that no sum
    overflows where the mean does not.
    """
    cut, factor = _chunk_dim(x), count_of(x, dims) ** -0.5
    pooled = cut in {d % x.dim() for d in dims}
    sums, squares = [], []
    for start, chunk, buffer in _chunks(x, cut):
        centre = mean if pooled else mean.narrow(cut, start, chunk.shape[cut])
        torch.sub(chunk, centre, out=buffer).mul_(factor)
        sums.append(buffer.sum(dims, keepdim=True))
        squares.append(buffer.square_().sum(dims, keepdim=True))
    return combine_chunks(sums, cut, pooled).mul_(factor), combine_chunks(squares, cut, pooled)


def _mean_of_squares(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    cut, factor = _chunk_dim(x), count_of(x, dims) ** -0.5
    pooled = cut in {d % x.dim() for d in dims}
    squares = []
    for _, chunk, buffer in _chunks(x, cut):
        torch.mul(chunk, factor, out=buffer)
        squares.append(buffer.square_().sum(dims, keepdim=True))
    return combine_chunks(squares, cut, pooled)


def _chunks(x: Tensor, cut: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Chunks of x along a dimension: the start of each, the chunk, and a buffer of its shape."""
    length = min(max(1, CHUNK * x.shape[cut] // x.numel()), x.shape[cut])
    buffer = torch.empty_like(x.narrow(cut, 0, length))
    for start in range(0, x.shape[cut], length):
        chunk = x.narrow(cut, start, min(length, x.shape[cut] - start))
        yield start, chunk, buffer.narrow(cut, 0, chunk.shape[cut])


def _chunk_dim(x: Tensor) -> int:
    """The first dimension whose positions are at most a chunk; else the longest dimension."""
    for d, length in enumerate(x.shape):
        if length > 1 and x.numel() // length <= CHUNK:
            return d
    return max(range(x.dim()), key=lambda d: x.shape[d])


def combine_chunks(parts: list[Tensor], cut: int, pooled: bool) -> Tensor:
    """The sums of chunks along the dimension `cut`, added if that dimension is pooled."""
    if len(parts) == 1:
        return parts[0]
    return torch.stack(parts).sum(0) if pooled else torch.cat(parts, cut)
