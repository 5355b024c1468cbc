"""Draws a row, a plane or a cube of elements, coloured by their share in the chosen pool."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metanorm.show.shapes import (
    CHOSEN,
    INK,
    NEUTRAL,
    POOLED,
    Point,
    Polygon,
    Shape,
    Words,
)
from metanorm.show.view import Edge
from metanorm.small.tensor import Tensor

CELL = 15.0
DEPTH_STEP: Point = (7.0, -6.0)  # one step away from the viewer
LABEL = 12.0  # font size of labels, and the space that they take

# The opacity of each visible side: of the grey base, and of the colour on it.
FRONT, TOP, RIGHT = (0.16, 1.0), (0.08, 0.72), (0.30, 1.0)
OPACITY_OF_UNCOUNTED = 0.4  # of the chosen element, if it does not count itself
SHADED_COLOURS = {POOLED: "#1a62c9", CHOSEN: "#c9641b"}  # the right side


@dataclass(frozen=True)
class DrawingPart:
    """A part of a picture, with its origin at the upper left."""

    width: float
    height: float
    shapes: tuple[Shape, ...]


def share_opacity(share: float) -> float:
    """The opacity for a share between 0 and 1: visible for any share above 0."""
    return round(0.2 + 0.8 * share, 2) if share else 0.0


def solid(edges: Sequence[Edge], shares: Tensor) -> DrawingPart:
    """The elements; the last edge runs to the right, the one before down, the first one back."""
    lengths = [1] * (3 - len(edges)) + [edge.length for edge in edges]
    labels = [""] * (3 - len(edges)) + [edge.label for edge in edges]
    chosen = [0] * (3 - len(edges)) + [edge.chosen for edge in edges]
    return _Solid(lengths, labels, chosen, Tensor(tuple(lengths), shares.elements)).piece()


class _Solid:
    def __init__(
        self, lengths: list[int], labels: list[str], chosen: list[int], shares: Tensor
    ) -> None:
        self.depth, self.rows, self.columns = lengths
        self.labels = labels
        self.chosen = tuple(chosen)
        sizes = [abs(share) for share in shares.elements]
        largest = max(sizes) or 1.0
        self.shares = Tensor(shares.shape, [size / largest for size in sizes])
        self.flat = not labels[0]
        left = (len(labels[1]) * 0.602 * LABEL + 8) if labels[1] else 0.0
        self.x = left
        self.y = 1.0 if self.flat else 1.0 - DEPTH_STEP[1] * self.depth

    def piece(self) -> DrawingPart:
        # Faces of one style follow each other: a face overlaps only its own grey base.
        faces = sorted(self._faces(), key=lambda f: (f.fill != NEUTRAL, f.fill, f.opacity))
        shapes = [*faces, *self._labels()]
        width = self.x + self.columns * CELL + 2
        if not self.flat:
            width += DEPTH_STEP[0] * self.depth + len(self.labels[0]) * 0.602 * LABEL
        return DrawingPart(width, self.y + self.rows * CELL + LABEL + 8, tuple(shapes))

    def _corner(self, n: float, row: float, column: float) -> Point:
        """The position of a corner of an element, `n` steps behind the front."""
        return (
            round(self.x + column * CELL + n * DEPTH_STEP[0], 1),
            round(self.y + row * CELL + n * DEPTH_STEP[1], 1),
        )

    def _faces(self) -> Iterator[Polygon]:
        """The visible faces: each is grey, with a colour on top if its element counts."""
        at = self._corner
        for r in range(self.rows):
            for c in range(self.columns):
                square = (at(0, r, c), at(0, r, c + 1), at(0, r + 1, c + 1), at(0, r + 1, c))
                yield from self._face(square, (0, r, c), FRONT)
        if self.flat:
            return
        last = self.columns - 1
        for n in range(self.depth):
            for c in range(self.columns):
                lid = (at(n, 0, c), at(n, 0, c + 1), at(n + 1, 0, c + 1), at(n + 1, 0, c))
                yield from self._face(lid, (n, 0, c), TOP)
            for r in range(self.rows):
                end = last + 1
                side = (at(n, r, end), at(n + 1, r, end), at(n + 1, r + 1, end), at(n, r + 1, end))
                yield from self._face(side, (n, r, last), RIGHT)

    def _face(
        self,
        points: tuple[Point, ...],
        element: tuple[int, int, int],
        opacities: tuple[float, float],
    ) -> Iterator[Polygon]:
        share = self.shares[element]
        yield Polygon(points, NEUTRAL, opacities[0], NEUTRAL, 0.6)
        colour = CHOSEN if element == self.chosen else POOLED
        strength = (
            (1.0 if share else OPACITY_OF_UNCOUNTED)
            if element == self.chosen
            else share_opacity(share)
        )
        if strength:
            fill = SHADED_COLOURS[colour] if opacities is RIGHT else colour
            yield Polygon(points, fill, round(strength * opacities[1], 2), NEUTRAL, 0.6)

    def _labels(self) -> Iterator[Shape]:
        depth_label, row_label, column_label = self.labels
        bottom = self.y + self.rows * CELL
        middle = self.x + self.columns * CELL / 2
        yield Words(middle, bottom + LABEL + 2, column_label, LABEL, "middle", mono=True, fill=INK)
        if row_label:
            y = self.y + self.rows * CELL / 2 + LABEL / 3
            yield Words(self.x - 6, y, row_label, LABEL, "end", mono=True, fill=INK)
        if depth_label:
            x, y = self._corner(self.depth / 2, self.rows, self.columns)
            yield Words(x + 5, y + LABEL * 0.8, depth_label, LABEL, "start", mono=True, fill=INK)
