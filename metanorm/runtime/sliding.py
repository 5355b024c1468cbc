"""Sums, largest values and squares of all windows along a dimension.

The axis is cut into blocks as long as a window. A window then is the end of one block and the
beginning of the next, so that all windows follow from one running total through each block from
either end (van Herk, 1992; Gil & Werman, 1993): constant work for each element, whatever the
width. Nothing is ever subtracted, so that nothing cancels, and a NaN stays inside the windows
that hold it.

A window reaches `back` and `ahead` of its position, of which one may be `EVERYTHING`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from metanorm.runtime.doubling import doubled
from metanorm.runtime.pools import over
from metanorm.runtime.tensors import must_decompose

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
        (added,) = doubled((padded(x, dim, back, ahead),), _sums, back + ahead + 1, dim)
        return added
    ends, beginnings = _halves(x, dim, back, ahead)
    inner = dim + 1
    added = ends.flip(inner).cumsum(inner).flip(inner) + beginnings.cumsum(inner)
    return _joined(added, dim, x.shape[dim])


def sliding_max(x: Tensor, dim: int, back: int, ahead: int) -> Tensor:
    """The largest value of each window."""
    if ahead == EVERYTHING:
        return x.flip(dim).cummax(dim).values.flip(dim)
    if back == EVERYTHING:
        return x.cummax(dim).values
    if must_decompose(x):
        cells = padded(x, dim, back, ahead, -torch.inf)
        (best,) = doubled((cells,), _maxima, back + ahead + 1, dim)
        return best
    ends, beginnings = _halves(x, dim, back, ahead, -torch.inf)
    inner = dim + 1
    behind = ends.flip(inner).cummax(inner).values.flip(inner)
    best = torch.maximum(behind, beginnings.cummax(inner).values)
    return _joined(best, dim, x.shape[dim])


def sliding_squares(
    x: Tensor, mean: Tensor, weight: Tensor, dim: int, back: int, ahead: int
) -> Tensor:
    """The weighted sum of squares about a mean of each window, from those about its own mean."""
    length, inner = x.shape[dim], dim + 1
    if weight.shape[dim] != length:
        weight = weight.expand([n if d == dim else -1 for d, n in enumerate(x.shape)])
    if back == EVERYTHING:
        return _about(_running(x, weight, dim), mean)
    if must_decompose(x):
        values = padded(x, dim, back, ahead)
        heavy = padded(weight, dim, back, ahead).expand_as(values)
        cells = (heavy, values, torch.zeros_like(values))
        return _about(_Running(*doubled(cells, _united, back + ahead + 1, dim)), mean)
    x_ends, x_beginnings = _halves(x, dim, back, ahead)
    ends, beginnings = _halves(weight, dim, back, ahead)
    left = _running(x_ends.flip(inner), ends.flip(inner), inner)
    left = _Running(*(part.flip(inner) for part in left))
    right = _running(x_beginnings, beginnings, inner)
    united = _united(left, right)
    return _about(_Running(*(_joined(part, dim, length) for part in united)), mean)


class _Running(NamedTuple):
    """Weight, mean and squares about the mean of all positions up to each."""

    weight: Tensor
    mean: Tensor
    squares: Tensor


def _united(left: Sequence[Tensor], right: Sequence[Tensor]) -> _Running:
    """The moments of both parts of a window (Chan, Golub & LeVeque, 1983)."""
    (weight, mean, squares), (other_weight, other_mean, other_squares) = left, right
    together = weight + other_weight
    share = over(other_weight, together)
    squares = squares + other_squares + weight * share * (mean - other_mean).square()
    return _Running(together, mean + (other_mean - mean) * share, squares)


def _about(moments: _Running, mean: Tensor) -> Tensor:
    """Squares about another mean."""
    return moments.squares + moments.weight * (moments.mean - mean).square()


def _sums(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (left[0] + right[0],)


def _maxima(left: Sequence[Tensor], right: Sequence[Tensor]) -> tuple[Tensor, ...]:
    return (torch.maximum(left[0], right[0]),)


def _running(x: Tensor, weight: Tensor, dim: int) -> _Running:
    """Welford's recurrence (1962), whose steps are known once the means are: all are positive."""
    together = weight.cumsum(dim)
    mean = over((weight * x).cumsum(dim), together)
    before, centre = _later(together, dim), _later(mean, dim)
    steps = over(weight * before, together) * (x - centre).square()
    return _Running(together, mean, steps.cumsum(dim))


def _halves(
    x: Tensor, dim: int, back: int, ahead: int, beyond: float = 0.0
) -> tuple[Tensor, Tensor]:
    """For each window, the end of the block in which it begins, and what it holds of the next.

    Both are cut into blocks, [..., blocks, positions, ...]: of the first, everything from a
    position on belongs to its window, of the second everything up to it.
    """
    length, width = x.shape[dim], back + ahead + 1
    blocks = -(-length // width) + 1
    whole = padded(x, dim, back, blocks * width - length - back, beyond)
    cut = torch.unflatten(whole, dim, (blocks, width))
    return cut.narrow(dim, 0, blocks - 1), _later(cut.narrow(dim, 1, blocks - 1), dim + 1, beyond)


def _joined(blocks: Tensor, dim: int, length: int) -> Tensor:
    return blocks.flatten(dim, dim + 1).narrow(dim, 0, length)


def _later(x: Tensor, dim: int, first: float = 0.0) -> Tensor:
    """Everything one position later."""
    return padded(x, dim, 1, 0, first).narrow(dim, 0, x.shape[dim])


def padded(x: Tensor, dim: int, before: int, behind: int, value: float = 0.0) -> Tensor:
    """The tensor with so much of a value before and behind it."""
    return pad(x, (0, 0) * (x.dim() - 1 - dim) + (before, behind), value=value)
