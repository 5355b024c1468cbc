"""The values of a run by name, each with a dimension for each axis, in program order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from metanorm.ir.nodes import Ref, Repeat, Type
from metanorm.ir.operands import every_let
from metanorm.ir.space import Space
from metanorm.small.call import Call
from metanorm.small.groupings import cells
from metanorm.small.tensor import gathered, raveled

Position = Mapping[str, int]  # on each axis


class Values:
    """Values by name, and their elements by axes."""

    def __init__(self, call: Call) -> None:
        self.call = call
        self.space = Space(call.program.axes)
        self.elements: dict[Ref, Sequence[float]] = {}
        self.types: dict[Ref, Type] = {}
        for let in every_let(call.program.body):
            self.types[let.name] = let.type
        for let in every_let(call.program.body):
            if isinstance(let.op, Repeat):
                for name, initial in zip(let.op.inside, let.op.initial):
                    self.types[name] = self.types[initial]
        self._cells: dict[str, tuple[list[int], int]] = {}

    def size(self, axis: str) -> int:
        """The length of an axis; the number of cells of a cell axis."""
        is_cell_axis = self.space[axis].cells_of is not None
        return self.cells(axis)[1] if is_cell_axis else self.call.lengths[axis]

    def sizes(self, axes: Sequence[str]) -> list[int]:
        """The length of each axis."""
        return [self.size(axis) for axis in axes]

    def cells(self, cell_axis: str) -> tuple[list[int], int]:
        """The cell of each position of the axis below a cell axis, and the number of cells."""
        if cell_axis not in self._cells:
            cells_of = self.space[cell_axis].cells_of
            assert cells_of is not None
            self._cells[cell_axis] = cells(cells_of[1], self.size(cells_of[0]), self.call)
        return self._cells[cell_axis]

    def element(self, ref: Ref, at: Position) -> float:
        """An element of a value. The position may be on more axes, and on axes instead of cells."""
        axes = self.types[ref].axes
        index = [
            at[axis] if axis in at else self.cells(axis)[0][at[self.space.base(axis)]]
            for axis in axes
        ]
        return self.elements[ref][raveled(index, self.sizes(axes))]

    def spread(
        self, elements: Sequence[float], axes: Sequence[str], to: Sequence[str]
    ) -> list[float]:
        """Elements on `axes`, repeated along all axes of `to`, in their order."""
        strides = {axis: math.prod(self.sizes(axes[i + 1 :])) for i, axis in enumerate(axes)}
        cell_axes = {self.space.base(axis): axis for axis in axes if axis not in to}
        steps = []
        for axis in to:
            stride = strides.get(axis, 0)
            positions: Sequence[int] = range(self.size(axis))
            if axis not in strides and axis in cell_axes:
                stride, positions = strides[cell_axes[axis]], self.cells(cell_axes[axis])[0]
            steps.append([position * stride for position in positions])
        return gathered(elements, steps)

    def broadcast(self, ref: Ref, axes: Sequence[str]) -> list[float]:
        """The elements of a value, repeated along all of `axes`."""
        return self.spread(self.elements[ref], self.types[ref].axes, axes)
