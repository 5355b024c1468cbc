"""Windows and pasts that end with the segment of their position, as in packed batches.

A window is merged from windows of half its width, of which the earlier one counts only where its
last position is of the same segment. Segments are consecutive, so all that lies between is of this
segment too. Nothing is subtracted: a NaN stays in its segment.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metanorm.runtime.doubling import Parts, doubled
from metanorm.runtime.extremes import Slide, shared_largest
from metanorm.runtime.groups import Groups
from metanorm.runtime.padding import padded, shifted
from metanorm.runtime.sliding import (
    EVERYTHING,
    RunningMoments,
    merged_maxima,
    merged_moments,
    merged_sums,
    squares_about,
)
from metanorm.runtime.windows import Window

# An exported program serves axes of fewer than 2^POWERS positions, which no memory holds.
POWERS = 36

Merge = Callable[[Parts, Parts], Parts]


def within(window: Window, groups: Groups) -> Window:
    """The pools of a window, cut at the borders of consecutive groups."""
    return window if groups.index is None else _Within(window, groups.index)


class _Within(Window):
    """A window that stays within the segments that `labels` name."""

    def __init__(self, window: Window, labels: Tensor) -> None:
        self.back, self.ahead, self.edge = window.back, window.ahead, window.edge
        self.labels = labels

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each pool."""
        return self._sum(x, dim, self.back, self.ahead)

    def transposed(self, x: Tensor, dim: int) -> Tensor:
        """For each position, the sum over all pools that contain it."""
        return self._sum(x, dim, self.ahead, self.back)

    def squares_about(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each pool's mean, operation by operation."""
        cells = (weight.expand_as(x), x, torch.zeros_like(x))
        pooled = self._pooled(cells, (0, 0, 0), merged_moments, dim, self.back, self.ahead)
        return squares_about(RunningMoments(*pooled), mean)

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each pool; equal ones share the gradient."""
        slide: Slide = lambda x, dim: self._max(x, dim, self.back, self.ahead)  # noqa: E731
        slide_transposed: Slide = lambda x, dim: self._max(x, dim, self.ahead, self.back)  # noqa: E731
        return shared_largest(x, dim, slide, slide_transposed) if x.shape[dim] else x

    def _sum(self, x: Tensor, dim: int, back: int, ahead: int) -> Tensor:
        (total,) = self._pooled((x,), (0,), merged_sums, dim, back, ahead)
        return total

    def _max(self, x: Tensor, dim: int, back: int, ahead: int) -> Tensor:
        (maximum,) = self._pooled((x,), (-torch.inf,), merged_maxima, dim, back, ahead)
        return maximum

    def _pooled(
        self, cells: Parts, empty: Sequence[float], merge: Merge, dim: int, back: int, ahead: int
    ) -> Parts:
        """The pools that reach `back` and `ahead`; `empty` is what a pool of nothing has."""
        shape = [1] * cells[0].dim()
        shape[dim] = cells[0].shape[dim]
        if not shape[dim]:
            return cells
        cut = _Cut(dim, self.labels.view(shape), empty, merge)
        past = cut.past(cells, back)
        if not ahead:
            return past
        flipped = _Cut(dim, cut.labels.flip(dim), empty, merge)
        future = flipped.past([part.flip(dim) for part in cells], ahead - 1)
        # The past has the position itself: the future begins with the next one.
        return merge(past, [part.flip(dim) for part in flipped.before(future)])


def is_whole_past(back: int) -> bool:
    """Whether a pool reaches back to the beginning of an axis, however long that is.

    A future is pooled without its own position, so that it reaches one position less.
    """
    return back >= EVERYTHING - 1


class _Cut:
    """Merges pools along a dimension where they are of one segment. `labels` broadcast."""

    def __init__(self, dim: int, labels: Tensor, empty: Sequence[float], merge: Merge) -> None:
        self.dim, self.labels, self.empty, self.merge = dim, labels, empty, merge

    def past(self, cells: Parts, back: int) -> Parts:
        """The pools of each position and `back` before it."""
        if torch.compiler.is_exporting() and is_whole_past(back):
            return self._whole_past(cells)
        width = self._width(back)
        values = [padded(part, self.dim, width - 1, 0, e) for part, e in zip(cells, self.empty)]
        labels = padded(self.labels, self.dim, width - 1, 0, -1)
        *pools, _ = doubled((*values, labels), self._merged, width, self.dim)
        return pools

    def before(self, pools: Parts) -> Parts:
        """The pools of the position before each, nothing where that is of another segment."""
        moved = [shifted(part, self.dim, e) for part, e in zip(pools, self.empty)]
        is_same = shifted(self.labels, self.dim, -1) == self.labels
        return [torch.where(is_same, part, e) for part, e in zip(moved, self.empty)]

    def _whole_past(self, cells: Parts) -> Parts:
        """The pools of each position and all before it, in as many steps for any length."""
        number = torch.arange(self.labels.shape[self.dim], device=self.labels.device)
        pools = cells
        for step in range(POWERS):
            before = number - (1 << step)
            place = before.clamp(min=0)
            is_inside = (before >= 0).view_as(self.labels)
            is_same = is_inside & (self.labels.index_select(self.dim, place) == self.labels)
            earlier = [part.index_select(self.dim, place) for part in pools]
            kept = [torch.where(is_same, part, e) for part, e in zip(earlier, self.empty)]
            pools = self.merge(kept, pools)
        return pools

    def _width(self, back: int) -> int:
        """The width of windows. One as long as the axis is a power of two, which takes less."""
        if torch.compiler.is_exporting():
            return back + 1  # a comparison would bind the program to lengths like the example's
        length = self.labels.shape[self.dim]
        if back < length:
            return back + 1
        width = 1
        while width < length:
            width *= 2
        return width

    def _merged(self, left: Parts, right: Parts) -> Parts:
        """Two adjacent windows, of which the earlier one counts where it is of the same segment."""
        *earlier, earlier_labels = left
        *later, labels = right
        is_same = earlier_labels == labels
        kept = [torch.where(is_same, part, e) for part, e in zip(earlier, self.empty)]
        return (*self.merge(kept, later), labels)
