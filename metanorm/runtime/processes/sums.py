"""Sums that processes exchange, in float64, and the statistics that follow from them.

Data in float32 is squared as it is: float64 holds the squares exactly, and their sums round little.
Data in float64 is squared about a number near the mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.errors import SingleValueError
from metanorm.runtime.mean_and_variance import CHUNK, Moments, combine_chunks, count_of
from metanorm.runtime.saving import save, saved
from metanorm.runtime.state import store_
from metanorm.runtime.tensors import is_plain_tensor, is_traced, must_decompose
from metanorm.runtime.weighing import only_counted, over


class PowerSums(NamedTuple):
    """The sums of deviations from a centre, and of their squares."""

    total: Tensor
    squares: Tensor


def power_sums(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
    about: Tensor | None = None,
) -> PowerSums:
    """The sums of x - about and of its squares over `dim`, in float64.

    `about` broadcasts against the results, `where` and `weight` against `x`.
    """
    dims = tuple(dim)
    if where is None and weight is None and about is None and dims and _is_large(x):
        total, squares = _PowerSums.apply(x, dims)  # type: ignore[no-untyped-call]
        return PowerSums(*(sums_ if keepdim else sums_.squeeze(dims) for sums_ in (total, squares)))
    deviations = deviations_of(x, broadcast_centre(about, x, dims, keepdim), where, weight)
    return PowerSums(
        pools.total(deviations, dims, keepdim, None, weight),
        pools.total(deviations.square(), dims, keepdim, None, weight),
    )


def power_sum(
    x: Tensor,
    power: int,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
    about: Tensor | None = None,
) -> Tensor:
    """One of `power_sums`: that of the first or the second power."""
    dims = tuple(dim)
    deviations = deviations_of(x, broadcast_centre(about, x, dims, keepdim), where, weight)
    powers = deviations if power == 1 else deviations.square()
    return pools.total(powers, dims, keepdim, None, weight)


def ties(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    about: Tensor | None = None,
) -> Tensor:
    """How many values over `dim` are equal to `about`, in float64; none is equal to NaN.

    `about` broadcasts against the results, `where` against `x`.
    """
    dims = tuple(dim)
    wanted = broadcast_centre(about, x, dims, keepdim)
    assert wanted is not None
    equal = x == wanted
    if where is not None:
        equal = equal & (where != 0)
    counted = equal.sum(dims, keepdim=keepdim) if dims else equal
    return counted.double()


def deviations_of(
    x: Tensor, about: Tensor | None, where: Tensor | None, weight: Tensor | None
) -> Tensor:
    """The deviation of each element from a centre, in float64; zero for excluded elements."""
    x = only_counted(x, None, weight)
    deviations = x.double() if about is None else x.double() - about
    return only_counted(deviations, where)


def broadcast_centre(
    about: Tensor | None, x: Tensor, dims: Iterable[int], keepdim: bool
) -> Tensor | None:
    """The centre of each pool, in a shape that broadcasts against `x`."""
    if about is None or keepdim or about.dim() == 0:
        return about
    positions = sorted(d % x.dim() for d in dims)
    rank = x.dim() - len(positions)
    about = about.reshape((1,) * (rank - about.dim()) + tuple(about.shape))
    for position in positions:
        about = about.unsqueeze(position)
    return about


def _is_large(x: Tensor) -> bool:
    """Whether to avoid a tensor of the size of x in float64. Compilers do so by themselves."""
    if torch.compiler.is_compiling():
        return False
    return (
        is_plain_tensor(x) and x.dtype is torch.float32 and not (must_decompose(x) or is_traced())
    )


class _PowerSums(torch.autograd.Function):
    """One pass, in chunks; the dimensions stay, with length one.

    The derivative is ds + 2 x dq, whose terms nearly cancel if the mean is large. So it is computed
    as (ds + 2 m dq) + 2 (x - m) dq, where m is the mean of this process, the first part in float64.
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if not x.numel():
            zero = x.double().sum(dims, keepdim=True)
            return zero, zero.clone()
        cut = max(range(x.dim()), key=lambda d: x.shape[d])
        pooled = cut in {d % x.dim() for d in dims}
        length = max(1, CHUNK // 2 * x.shape[cut] // x.numel())
        totals, squares = [], []
        for start in range(0, x.shape[cut], length):
            chunk = x.narrow(cut, start, min(length, x.shape[cut] - start)).double()
            totals.append(chunk.sum(dims, keepdim=True))
            squares.append(chunk.square_().sum(dims, keepdim=True))
        return combine_chunks(totals, cut, pooled), combine_chunks(squares, cut, pooled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        count = max(1, x.numel() // max(1, output[0].numel()))
        save(ctx, x, (output[0].detach() / count).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None]:
        x, centre = saved(ctx)
        total_gradient, squares_gradient = gradients
        twice = 2 * squares_gradient
        constant = (total_gradient + twice * centre).to(x.dtype)
        return torch.addcmul(constant, x - centre, twice.to(x.dtype)), None


# ---- moments of a sweep, and the sums that follow from them


def exact_moments(
    x: Tensor,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Moments:
    """The mean and the biased variance over `dim`, in float64.

    `where` and `weight` broadcast against `x`.
    """
    dims = tuple(dim)
    if where is None and weight is None and dims and x.numel() and _is_large(x):
        mean, variance = _ExactMoments.apply(x, dims)  # type: ignore[no-untyped-call]
        return Moments(*(m if keepdim else m.squeeze(dims) for m in (mean, variance)))
    return pools.moments(x.double(), dims, keepdim, where, weight)


class _ExactMoments(torch.autograd.Function):
    """One pass, in chunks, over data in float32; the dimensions stay, with length one."""

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        total, squares = _PowerSums.forward(x, dims)
        count = count_of(x, dims)
        mean = total / count
        # Squares of float32 are exact in float64: what cancels is below the rounding of the data.
        return mean, (squares / count - mean.square()).clamp_min(0)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        save(ctx, x, output[0].to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor, None]:
        x, mean = saved(ctx)
        count = count_of(x, ctx.dims)
        constant, slope = (g.to(x.dtype) for g in (gradients[0] / count, gradients[1] * 2 / count))
        return torch.addcmul(constant, x - mean, slope), None


def gaps_of_moments(count: Tensor | float, mean: Tensor, near: Tensor | None = None) -> Tensor:
    """The sum of the deviations of `count` values from `near`, in float64."""
    return _gap(mean, near) * _weight(count)


def squares_of_moments(
    count: Tensor | float, mean: Tensor, var: Tensor, near: Tensor | None = None
) -> Tensor:
    """The sum of the squared deviations of `count` values from `near`, in float64."""
    return (var + _gap(mean, near).square()) * _weight(count)


def _gap(mean: Tensor, near: Tensor | None) -> Tensor:
    return mean if near is None else mean - _shaped(near, mean)


def _shaped(near: Tensor, sums: Tensor) -> Tensor:
    """The number near the mean of each pool, which may have dimensions of length one beside it."""
    return near.reshape(sums.shape) if near.numel() == sums.numel() else near


def _weight(count: Tensor | float) -> Tensor | float:
    return count.double() if isinstance(count, Tensor) else count


# ---- statistics


def whole(value: Tensor, like: Tensor) -> Tensor:
    """A sum over all processes, in the dtype of the statistics of `like`."""
    return value.to(like.dtype)


def mean_from_sums(
    count: Tensor, total: Tensor, like: Tensor, near: Tensor | None = None
) -> Tensor:
    """The mean of `count` values whose deviations from `near` sum to `total`; zero for none."""
    deviation = over(total, count)
    return (deviation if near is None else _shaped(near, deviation) + deviation).to(like.dtype)


def var_from_sums(count: Tensor, total: Tensor, squares: Tensor, like: Tensor) -> Tensor:
    """The biased variance of `count` values, from the sums of deviations and of their squares.

    It is zero for no values.
    """
    deviation = over(total, count)
    return (over(squares, count) - deviation.square()).clamp_min(0).to(like.dtype)


def second_from_sums(count: Tensor, squares: Tensor, like: Tensor) -> Tensor:
    """The mean of squares from their sum; zero for no values."""
    return over(squares, count).to(like.dtype)


def demand_several_in_all(owner: str, count: Tensor, axes: str) -> None:
    """Raise in all processes if any variance is of a single value in all processes together.

    A count on a GPU is not read, as that would synchronize.
    """
    if torch.compiler.is_compiling() or not is_plain_tensor(count) or is_traced():
        return
    if bool((count == 1).all()):
        raise SingleValueError(f"{owner}: Expected more than 1 value in each pool over {axes}")


def store_where_(elements: Tensor, *updates: tuple[Tensor, Tensor | float]) -> None:
    """Replace the contents of buffers as `store_` does, if the processes have any elements."""
    any_elements = elements > 0
    store_(
        *(
            (buffer, torch.where(any_elements, value, buffer.detach().to(_dtype(value, buffer))))
            for buffer, value in updates
        )
    )


def _dtype(value: Tensor | float, buffer: Tensor) -> torch.dtype:
    return value.dtype if isinstance(value, Tensor) else buffer.dtype
