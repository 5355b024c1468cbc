"""Windows of any width from those of half the width.

Each step needs a few slices of torch's own and no length of an axis, so that programs which are
recorded serve axes of any length. It is more work than one running total through each block, which
is what windows are made of elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

Parts = Sequence[Tensor]


def doubled(
    cells: Parts, joined: Callable[[Parts, Parts], Parts], width: int, dim: int
) -> tuple[Tensor, ...]:
    """What `joined` makes of `width` neighbours along a dimension, of each of the `cells`.

    The result is shorter than the cells by `width - 1`. `joined` takes what is known of two windows
    side by side; it is never given a window twice.
    """
    span, covered = 1, 0
    pieces: Parts = cells
    found: Parts = ()
    while True:
        if width & span:
            found = _beside(found, pieces, covered, span, joined, dim) if covered else pieces
            covered += span
        if covered == width:
            return tuple(found)
        pieces = _beside(pieces, pieces, span, span, joined, dim)
        span *= 2


def _beside(
    left: Parts, right: Parts, shift: int, added: int,
    joined: Callable[[Parts, Parts], Parts], dim: int,
) -> Parts:  # fmt: skip
    """Windows joined with those that begin so much later, which are as long as what is `added`."""
    length = left[0].shape[dim] - added
    first = [part.narrow(dim, 0, length) for part in left]
    return joined(first, [part.narrow(dim, shift, length) for part in right])
