"""What processes add up, in double precision, and what statistics come of it.

Squares are of data in float32 at most as they are: float64 holds them exactly, and their sums have
digits to spare. Of data in float64 they are taken about a number near the mean.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime import pools
from metanorm.runtime.errors import SingleValueError
from metanorm.runtime.mean_and_variance import CHUNK, joined
from metanorm.runtime.saving import save, saved
from metanorm.runtime.state import store_
from metanorm.runtime.tensors import is_plain_tensor, is_traced, must_decompose


class PowerSums(NamedTuple):
    """The sums of gaps to a centre, and of their squares."""

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
        return PowerSums(*(s if keepdim else s.squeeze(dims) for s in (total, squares)))
    gaps = gaps_of(x, back(about, x, dims, keepdim), where, weight)
    return PowerSums(
        pools.total(gaps, dims, keepdim, None, weight),
        pools.total(gaps.square(), dims, keepdim, None, weight),
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
    gaps = gaps_of(x, back(about, x, dims, keepdim), where, weight)
    powers = gaps if power == 1 else gaps.square()
    return pools.total(powers, dims, keepdim, None, weight)


def gaps_of(x: Tensor, about: Tensor | None, where: Tensor | None, weight: Tensor | None) -> Tensor:
    """How far each element is from a centre, in float64; zero where it is left out."""
    x = pools.only_counted(x, None, weight)
    gaps = x.double() if about is None else x.double() - about
    return pools.only_counted(gaps, where)


def back(about: Tensor | None, x: Tensor, dims: Iterable[int], keepdim: bool) -> Tensor | None:
    """The centre of each pool as it broadcasts against what is pooled."""
    if about is None or keepdim or about.dim() == 0:
        return about
    positions = sorted(d % x.dim() for d in dims)
    rank = x.dim() - len(positions)
    about = about.reshape((1,) * (rank - about.dim()) + tuple(about.shape))
    for position in positions:
        about = about.unsqueeze(position)
    return about


def _is_large(x: Tensor) -> bool:
    """Whether it is worth while not to make a tensor of the size of x in float64."""
    return (
        is_plain_tensor(x) and x.dtype is torch.float32 and not (must_decompose(x) or is_traced())
    )


class _PowerSums(torch.autograd.Function):
    """One pass, a piece at a time; the dimensions stay, with length one.

    The derivative ds + 2 x dq is taken about the mean of this process, which is subtracted from x,
    and added in double precision: with a large mean, the two terms nearly cancel.
    """

    @staticmethod
    def forward(x: Tensor, dims: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        if not x.numel():
            zero = x.double().sum(dims, keepdim=True)
            return zero, zero.clone()
        cut = max(range(x.dim()), key=lambda d: x.shape[d])
        pooled = cut in {d % x.dim() for d in dims}
        rows = max(1, CHUNK // 2 * x.shape[cut] // x.numel())
        totals, squares = [], []
        for start in range(0, x.shape[cut], rows):
            piece = x.narrow(cut, start, min(rows, x.shape[cut] - start)).double()
            totals.append(piece.sum(dims, keepdim=True))
            squares.append(piece.square_().sum(dims, keepdim=True))
        return joined(totals, cut, pooled), joined(squares, cut, pooled)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
        x, ctx.dims = inputs
        count = max(1, x.numel() // max(1, output[0].numel()))
        save(ctx, x, (output[0].detach() / count).to(x.dtype))

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, None]:
        x, centre = saved(ctx)
        by_total, by_squares = gradients
        twice = 2 * by_squares
        constant = (by_total + twice * centre).to(x.dtype)
        return torch.addcmul(constant, x - centre, twice.to(x.dtype)), None


# ---- statistics


def whole(value: Tensor, like: Tensor) -> Tensor:
    """A sum or a count of all processes, in the type of the statistics of `like`."""
    return value.to(like.dtype)


def mean_from_sums(
    count: Tensor, total: Tensor, like: Tensor, near: Tensor | None = None
) -> Tensor:
    """The mean of values whose gaps to `near` add up to `total`; zero where there are none."""
    gap = pools.over(total, count)
    return (gap if near is None else near + gap).to(like.dtype)


def var_from_sums(count: Tensor, total: Tensor, squares: Tensor, like: Tensor) -> Tensor:
    """The biased variance of values from the sums of gaps to one number; zero where there are
    none."""
    gap = pools.over(total, count)
    return (pools.over(squares, count) - gap.square()).clamp_min(0).to(like.dtype)


def second_from_sums(count: Tensor, squares: Tensor, like: Tensor) -> Tensor:
    """The mean of squares from their sum; zero where there are none."""
    return pools.over(squares, count).to(like.dtype)


def demand_several_in_all(owner: str, count: Tensor, axes: str) -> None:
    """Refuse a variance of a single value in all processes together, in all of them alike.

    A count on a GPU is not waited for.
    """
    if torch.compiler.is_compiling() or not is_plain_tensor(count) or is_traced():
        return
    if bool((count == 1).all()):
        raise SingleValueError(f"{owner}: expected more than one value in each pool over {axes}")


def store_where_(elements: Tensor, *updates: tuple[Tensor, Tensor | float]) -> None:
    """Replace the contents of buffers as `store_` does, where the processes have any elements."""
    some = elements > 0
    store_(
        *(
            (buffer, torch.where(some, value, buffer.detach().to(_dtype(value, buffer))))
            for buffer, value in updates
        )
    )


def _dtype(value: Tensor | float, buffer: Tensor) -> torch.dtype:
    return value.dtype if isinstance(value, Tensor) else buffer.dtype
