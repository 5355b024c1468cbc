"""Draws the sweeps of a plan over the data, with the elements of one island in colour."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metanorm.ir.program import Program
from metanorm.plan.sweeps import Plan
from metanorm.show.example import example
from metanorm.show.picture import translated
from metanorm.show.pooled import MAX_EDGES, MAX_POSITIONS
from metanorm.show.shapes import INK, POOLED, Drawing, Line, Shape, Words, rectangle
from metanorm.show.solids import DrawingPart, solid
from metanorm.show.view import Edge
from metanorm.small.tensor import Tensor, unraveled
from metanorm.small.values import Values

MARGIN = 8.0


class DataCube:
    """The data of a small example call, on which the islands of plans are drawn."""

    def __init__(self, forward: Program) -> None:
        """`forward` is a program of one variant, whose axes are those of its plans.

        Raises `CannotDraw`.
        """
        self.values = Values(example(forward))
        self.program = self.values.call.program
        self.space = self.values.space

    def drawing(self, plan: Plan, title: str) -> Drawing:
        """The data with one island of a plan in colour; `title` is the text alternative."""
        part = self._solid(plan)
        shapes = tuple(translated(part.shapes, MARGIN, MARGIN))
        return Drawing(part.width + 2 * MARGIN, part.height + 2 * MARGIN, shapes, title)

    def _solid(self, plan: Plan) -> DrawingPart:
        dims = [self.space.leaves(dim) for dim in self.program.inputs[0].dims]
        while len(dims) > MAX_EDGES:
            dims[-2:] = [(*dims[-2], *dims[-1])]
        edges = [self._edge(axes, plan, rank, len(dims)) for rank, axes in enumerate(dims)]
        lengths = [edge.length for edge in edges]

        def share(place: int) -> float:
            index = unraveled(place, lengths)
            return math.prod(edge.matrix[edge.chosen, i] for edge, i in zip(edges, index))

        return solid(edges, Tensor.of(lengths, share))

    def _edge(self, axes: tuple[str, ...], plan: Plan, rank: int, count: int) -> Edge:
        """An edge of the solid. In a cube the chosen element is on the right."""
        lengths = self.values.sizes(axes)
        islands = [self._islands(axis, plan) for axis in axes]
        whole = math.prod(lengths)
        length = min(whole, MAX_POSITIONS)

        def together(place: int) -> float:
            row, column = (unraveled(part, lengths) for part in divmod(place, length))
            return float(all(of[i] == of[j] for of, i, j in zip(islands, row, column)))

        names = self.space.unsplit(axes)
        label = " × ".join(f"*{n}" if self.space[n].variadic else n for n in names)
        chosen = length - 1 if 0 < rank == count - 1 and count == MAX_EDGES else 0
        matrix = Tensor.of((length, length), together)
        return Edge(label, axes, matrix, chosen, pooled=False, cut=whole > length)

    def _islands(self, axis: str, plan: Plan) -> Sequence[int]:
        """The island that each position of an axis lies in: its own, that of its cell, or one."""
        length = self.values.size(axis)
        if axis in plan.islands:
            return range(length)
        for name in plan.islands:
            cells_of = plan.program.index.space[name].cells_of
            if cells_of is not None and cells_of[0] == axis:
                return self.values.cells(name)[0]
        return [0] * length


def traffic_drawing(rows: Sequence[tuple[str, int]], copy: int) -> Drawing:
    """Bars of bytes for each element, with the copy of the data as a line to compare with."""
    size, left, height, unit = 12.0, 250.0, 20.0, 9.0
    shapes: list[Shape] = []
    for rank, (title, count) in enumerate(rows):
        y = MARGIN + rank * (height + 6)
        shapes.append(Words(left - 8, y + height - 6, title, size, "end"))
        shapes.append(rectangle(left, y, count * unit, height, POOLED, 0.75))
        shapes.append(Words(left + count * unit + 6, y + height - 6, f"{count}", size, mono=True))
    bottom = MARGIN + len(rows) * (height + 6)
    shapes.append(Line((left + copy * unit, MARGIN - 4), (left + copy * unit, bottom), INK, 1.5))
    shapes.append(Words(left + copy * unit + 4, bottom + 12, f"a copy: {copy} bytes", size - 1))
    width = left + max([copy + 14, *(count for _, count in rows)]) * unit + 60
    title = f"Bytes read and written for each float32 element; a copy takes {copy}"
    return Drawing(width, bottom + 22, tuple(shapes), title)
