"""Draws the matrix of each edge as a small heat map, with product signs between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

from metanorm.show.shapes import CHOSEN, INK, NEUTRAL, POOLED, Polygon, Shape, Words, rectangle
from metanorm.show.solids import DrawingPart, share_opacity
from metanorm.show.view import Edge

SIDE = 50.0  # of a matrix, whatever its length
GAP = 22.0
LABEL = 11.0


def matrices(edges: Sequence[Edge]) -> DrawingPart:
    """The heat maps. Row i shows the weights of position i; the chosen row has a frame."""
    shapes: list[Shape] = []
    for rank, edge in enumerate(edges):
        x = rank * (SIDE + GAP)
        if rank:
            shapes.append(Words(x - GAP / 2, SIDE / 2 + 5, "⊗", 14, "middle", fill=INK))
        shapes += _matrix(edge, x + 1)
    width = len(edges) * (SIDE + GAP) - GAP + 2
    return DrawingPart(width, SIDE + LABEL + 8, tuple(shapes))


def _matrix(edge: Edge, x: float) -> Iterator[Shape]:
    side = SIDE / edge.length
    largest = max(edge.matrix.elements) or 1.0
    cells = list(product(range(edge.length), repeat=2))
    tints = {cell: share_opacity(edge.matrix[cell] / largest) for cell in cells}
    for row, column in sorted(cells, key=lambda cell: tints[cell]):
        share = tints[row, column]
        colour, opacity = (POOLED, share) if share else (NEUTRAL, 0.08)
        yield _cell(x + column * side, 1 + row * side, side, colour, opacity)
    outline = rectangle(x, round(1 + edge.chosen * side, 2), SIDE, round(side, 2), "").points
    yield Polygon(outline, "", 0, CHOSEN, 1.6)
    middle = x + SIDE / 2
    yield Words(middle, SIDE + LABEL + 4, edge.label, LABEL, "middle", mono=True, fill=INK)


def _cell(x: float, y: float, side: float, colour: str, opacity: float) -> Polygon:
    square = rectangle(round(x, 2), round(y, 2), round(side, 2), round(side, 2), colour)
    return Polygon(square.points, colour, opacity, NEUTRAL, 0.5)
