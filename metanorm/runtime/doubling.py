"""Windows of any width by doubling: from windows of half the width.

A step takes a few slices, and no length of an axis. So a recorded program holds for axes of any
length. Elsewhere, `sliding.py` takes one running total through each block, which is less work.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Parts = Sequence[Tensor]


def doubled(
    cells: Parts, merge: Callable[[Parts, Parts], Parts], width: int, dim: int
) -> tuple[Tensor, ...]:
    """The windows of `width` cells along a dimension, merged by `merge`.

    The result is shorter than `cells` by `width - 1`. `merge` merges two adjacent windows; no
    window is used twice.
    """
    span, covered = 1, 0
    doubled_windows: Parts = cells  # of `span` cells
    windows: Parts = ()  # of `covered` cells
    while True:
        if width & span:
            windows = (
                _merge_adjacent(windows, doubled_windows, covered, span, merge, dim)
                if covered
                else doubled_windows
            )
            covered += span
        if covered == width:
            return tuple(windows)
        doubled_windows = _merge_adjacent(doubled_windows, doubled_windows, span, span, merge, dim)
        span *= 2


def _merge_adjacent(
    left: Parts, right: Parts, shift: int, added: int,
    merge: Callable[[Parts, Parts], Parts], dim: int,
) -> Parts:  # fmt: skip
    """Windows merged with those that begin `shift` later and are `added` wide."""
    length = left[0].shape[dim] - added
    first = [part.narrow(dim, 0, length) for part in left]
    return merge(first, [part.narrow(dim, shift, length) for part in right])
