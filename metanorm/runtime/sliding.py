"""Sums, largest values and squares of all windows along a dimension.

The axis is cut into blocks as long as a window. A window then is the end of one block and the
beginning of the next, so that all windows follow from one running total through each block from
either end (van Herk, 1992; Gil & Werman, 1993): constant work for each element, whatever the
width. Nothing is ever subtracted, so that nothing cancels, and a NaN stays inside the windows
that contain it.

A window reaches `back` and `ahead` of its position by a number of positions; one of them may be
`EVERYTHING`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.doubling import doubled
from metanorm.runtime.padding import padded, shifted
from metanorm.runtime.tensors import must_decompose
from metanorm.runtime.weighing import over

EVERYTHING = 1 << 62  # further than any axis is long


def sliding_sum(x: Tensor, dim: int, back: int, ahead: int) -> Tensor:
    """The sum of each window."""
    if not x.shape[dim]:
        return x
    if ahead == EVERYTHING:
        return x.flip(dim).cumsum(dim).flip(dim)
    if back == EVERYTHING:
        return x.cumsum(dim)
    if must_decompose(x):
        (sums,) = doubled((padded(x, dim, back, ahead),), merged_sums, back + ahead + 1, dim)
        return sums
    ends, starts = _halves(x, dim, back, ahead)
    inner = dim + 1
    sums = ends.flip(inner).cumsum(inner).flip(inner) + starts.cumsum(inner)
    return _flatten_blocks(sums, dim, x.shape[dim])


def sliding_max(x: Tensor, dim: int, back: int, ahead: int) -> Tensor:
    """The largest value of each window."""
    if ahead == EVERYTHING:
        return x.flip(dim).cummax(dim).values.flip(dim)
    if back == EVERYTHING:
        return x.cummax(dim).values
    if must_decompose(x):
        cells = padded(x, dim, back, ahead, -torch.inf)
        (maxima,) = doubled((cells,), merged_maxima, back + ahead + 1, dim)
        return maxima
    ends, starts = _halves(x, dim, back, ahead, -torch.inf)
    inner = dim + 1
    from_ends = ends.flip(inner).cummax(inner).values.flip(inner)
    maxima = torch.maximum(from_ends, starts.cummax(inner).values)
    return _flatten_blocks(maxima, dim, x.shape[dim])


def sliding_squares(
    x: Tensor, mean: Tensor, weight: Tensor, dim: int, back: int, ahead: int
) -> Tensor:
    """The weighted sum of squares about a mean of each window, from those about its own mean."""
    length, inner = x.shape[dim], dim + 1
    if weight.shape[dim] != length:
        weight = weight.expand([n if d == dim else -1 for d, n in enumerate(x.shape)])
    if back == EVERYTHING:
        return squares_about(_running_moments(x, weight, dim), mean)
    if must_decompose(x):
        values = padded(x, dim, back, ahead)
        weights = padded(weight, dim, back, ahead).expand_as(values)
        cells = (weights, values, torch.zeros_like(values))
        return squares_about(
            RunningMoments(*doubled(cells, merged_moments, back + ahead + 1, dim)), mean
        )
    x_ends, x_starts = _halves(x, dim, back, ahead)
    ends, starts = _halves(weight, dim, back, ahead)
    left = _running_moments(x_ends.flip(inner), ends.flip(inner), inner)
    left = RunningMoments(*(part.flip(inner) for part in left))
    right = _running_moments(x_starts, starts, inner)
    moments = merged_moments(left, right)
    return squares_about(
        RunningMoments(*(_flatten_blocks(part, dim, length) for part in moments)), mean
    )


class RunningMoments(NamedTuple):
    """Weight, mean and squares about the mean of all positions up to each one."""

    weight: Tensor
    mean: Tensor
    squares: Tensor


def merged_moments(left: Sequence[Tensor], right: Sequence[Tensor]) -> RunningMoments:
    """The moments of two parts of a window together (Chan, Golub & LeVeque, 1983)."""
    (weight, mean, squares), (other_weight, other_mean, other_squares) = left, right
    total = weight + other_weight
    share = over(other_weight, total)
    squares = squares + other_squares + weight * share * (mean - other_mean).square()
    return RunningMoments(total, mean + (other_mean - mean) * share, squares)


def squares_about(moments: RunningMoments, mean: Tensor) -> Tensor:
    """Squares about another mean."""
    return moments.squares + moments.weight * (moments.mean - mean).square()


def merged_sums(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The sum of two parts of a window together."""
    return (left[0] + right[0],)


def merged_maxima(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """The largest value of two parts of a window together."""
    return (torch.maximum(left[0], right[0]),)


def _running_moments(x: Tensor, weight: Tensor, dim: int) -> RunningMoments:
    """Welford's recurrence (1962), from running means; all of its terms are positive."""
    total = weight.cumsum(dim)
    mean = over((weight * x).cumsum(dim), total)
    total_before, mean_before = shifted(total, dim), shifted(mean, dim)
    steps = over(weight * total_before, total) * (x - mean_before).square()
    return RunningMoments(total, mean, steps.cumsum(dim))


def _halves(
    x: Tensor, dim: int, back: int, ahead: int, beyond: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The two parts of each window, in the block where it begins and in the next.

    Both have shape [..., blocks, positions, ...]. In the first, a window has all positions from its
    own on; in the second, all positions before.
    """
    length, width = x.shape[dim], back + ahead + 1
    blocks = -(-length // width) + 1
    padded_x = padded(x, dim, back, blocks * width - length - back, beyond)
    blocked = torch.unflatten(padded_x, dim, (blocks, width))
    return blocked.narrow(dim, 0, blocks - 1), shifted(
        blocked.narrow(dim, 1, blocks - 1), dim + 1, beyond
    )


def _flatten_blocks(blocks: Tensor, dim: int, length: int) -> Tensor:
    return blocks.flatten(dim, dim + 1).narrow(dim, 0, length)
