"""Draws the rows of a table as nodes of graphs, coloured by their pools."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from metanorm.show.shapes import (
    CHOSEN,
    NEUTRAL,
    OTHERS,
    POOLED,
    Circle,
    Line,
    Point,
    Polygon,
    Shape,
)
from metanorm.show.solids import DrawingPart
from metanorm.show.view import Nodes
from metanorm.small.tensor import Tensor

DOT = 6.5
RINGS = (31.0, 19.0)  # the radii of graphs
GAP = 26.0


def graph_drawing(nodes: Nodes, counts: Sequence[float], chosen: int) -> DrawingPart:
    """The nodes of each graph on a ring. `counts` is the weight of each for the chosen node."""
    components = _connected_components(len(counts), nodes)
    radii = [RINGS[0] if len(members) > 3 else RINGS[1] for members in components]
    width = max(radii) * 2 + 2 * DOT + 4
    centres: dict[int, Point] = {}
    y = DOT + 2
    for members, radius in zip(components, radii):
        for rank, node in enumerate(members):
            angle = 2 * math.pi * rank / len(members) - math.pi / 2
            x = width / 2 + radius * math.cos(angle)
            centres[node] = (round(x, 1), round(y + radius + radius * math.sin(angle), 1))
        y += 2 * radius + GAP
    shapes = [*_edge_shapes(nodes, centres, chosen), *_node_shapes(nodes, centres, counts, chosen)]
    return DrawingPart(width, y - GAP + DOT + 2, tuple(shapes))


def _connected_components(count: int, nodes: Nodes) -> list[list[int]]:
    """The connected components of the nodes; a single one without lines."""
    if not nodes.lines:
        return [list(range(count))]
    group = list(range(count))
    for _ in range(count):
        for a, b in nodes.lines:
            group[a] = group[b] = min(group[a], group[b])
    return [[n for n in range(count) if group[n] == g] for g in sorted(set(group))]


def _edge_shapes(nodes: Nodes, centres: dict[int, Point], chosen: int) -> Iterator[Shape]:
    """All edges; those that lead to the chosen node are on top."""
    lines = [(a, b) for a, b in nodes.lines if not (nodes.directed and b == chosen)]
    for a, b in lines:
        yield _edge_line(centres[a], centres[b], NEUTRAL, 1.2)
    if nodes.directed:
        for a, b in nodes.lines:
            if b == chosen:
                yield _edge_line(centres[a], centres[b], POOLED, 2)
                yield _arrow_head(centres[a], centres[b])


def _edge_line(start: Point, end: Point, colour: str, width: float) -> Line:
    """A line from the rim of a dot to the rim of another."""
    x, y = _direction(start, end)
    first = (round(start[0] + x * DOT, 1), round(start[1] + y * DOT, 1))
    return Line(first, (round(end[0] - x * DOT, 1), round(end[1] - y * DOT, 1)), colour, width)


def _direction(start: Point, end: Point) -> Point:
    length = math.dist(start, end)
    return (end[0] - start[0]) / length, (end[1] - start[1]) / length


def _arrow_head(start: Point, end: Point) -> Polygon:
    """An arrow head that touches the dot at `end`."""
    x, y = _direction(start, end)
    tip = (end[0] - x * (DOT + 1), end[1] - y * (DOT + 1))
    base = (tip[0] - x * 8, tip[1] - y * 8)
    corners = (tip, (base[0] - y * 4, base[1] + x * 4), (base[0] + y * 4, base[1] - x * 4))
    return Polygon(tuple((round(a, 1), round(b, 1)) for a, b in corners), POOLED)


def _node_shapes(
    nodes: Nodes, centres: dict[int, Point], counts: Sequence[float], chosen: int
) -> Iterator[Shape]:
    others = sorted({p for p in nodes.pools if p != nodes.pools[chosen]}) if nodes.pools else []
    for node, (x, y) in sorted(centres.items()):
        colour, opacity = NEUTRAL, 0.35
        if counts[node]:
            colour, opacity = POOLED, 1.0
        elif nodes.pools and nodes.pools[node] != nodes.pools[chosen]:
            colour, opacity = OTHERS[others.index(nodes.pools[node]) % len(OTHERS)], 1.0
        ring = CHOSEN if node == chosen else ""
        yield Circle(x, y, DOT, colour, opacity, ring, 3)


def row_weights(shares: Tensor) -> list[float]:
    """The weight of each row: the sum of its shares."""
    return [sum(map(abs, row)) for row in shares.rows()]
