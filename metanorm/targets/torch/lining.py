"""Operands lined up, so that torch broadcasts them as the axes say."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from metanorm.ir.aggregation import Blocks, ByIndex, Chunks, Grouping, Interleave
from metanorm.targets.python.pyir import (
    Binary,
    Expr,
)
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, method


class Lining:
    """Brings the dimensions of several values into one order."""

    def __init__(self, context: Context) -> None:
        self.c = context

    def frame_of(self, let_axes: Sequence[str], values: Sequence[Value]) -> Dims:
        """The dimensions against which operands line up.

        An operand's own where one has them all; those of an input where an operand is kept in
        its shape; else the axes of the result, in order.
        """
        bases = {self.c.space.base(a) for a in let_axes}
        for value in values:
            if bases <= {self.c.space.base(d.axis) for d in value.dims}:
                return tuple(replace(d, axis=self._finest(d.axis, let_axes)) for d in value.dims)
        if any(not d.full for value in values for d in value.dims):
            for decl in self.c.program.inputs:
                frame = self.c.layouts.frame(decl.dims)
                if bases <= {d.axis for d in frame} and decl.sort == "tensor":
                    return tuple(replace(d, axis=self._finest(d.axis, let_axes)) for d in frame)
        return tuple(Dim(axis) for axis in let_axes)

    def _finest(self, axis: str, axes: Sequence[str]) -> str:
        base = self.c.space.base(axis)
        return next((a for a in axes if self.c.space.base(a) == base), axis)

    def lined_up(self, values: Sequence[Value], axes: Sequence[str]) -> tuple[list[Expr], Dims]:
        """Operands that broadcast against each other, and the dimensions of the result."""
        values = [self.spread(v, axes) for v in values]
        frame = self.frame_of(axes, values)
        values = [self.c.layouts.within(self.in_order(v, frame), frame) for v in values]
        exprs = [self.c.layouts.aligned(v, frame) for v in values]
        starts = [self.c.layouts.place(frame, d.axis) for v in values for d in v.dims]
        start = min(starts, default=len(frame))
        full = {d.axis for v in values for d in v.dims if d.full}
        return exprs, tuple(self._result_dim(d.axis, full) for d in frame[start:])

    def _result_dim(self, axis: str, full: Collection[str]) -> Dim:
        """The dimension of a result: a mode may have spread cells over the whole axis."""
        base = self.c.space.base(axis)
        return Dim(axis, axis in full) if axis in full or base not in full else Dim(base)

    def spread(self, value: Value, axes: Sequence[str]) -> Value:
        """Values of cells, given back to the positions of an axis that is wanted in full."""
        for place, dim in enumerate(value.dims):
            cells_of = self.c.space[dim.axis].cells_of
            if cells_of is None or dim.axis in axes or cells_of[0] not in axes or not dim.full:
                continue
            base, matrix = cells_of
            at = self.c.layouts.position(value.dims, place)
            dims = tuple(Dim(base) if i == place else d for i, d in enumerate(value.dims))
            loose = value.loose or self._may_be_one(matrix)
            value = Value(self._spread(value.expr, matrix, base, at), dims, loose=loose)
        return value

    def _may_be_one(self, matrix: Grouping) -> bool:
        """Whether all positions may be one group, whose value then broadcasts."""
        inputs = self.c.program.inputs
        return isinstance(matrix, ByIndex) and any(
            decl.name == matrix.index and not decl.required for decl in inputs
        )

    def in_order(self, value: Value, frame: Dims) -> Value:
        """The value with all dimensions there, where they have to change places."""
        if not value.loose:
            return value
        there = {self.c.space.base(d.axis) for d in frame}
        own = [d.axis for d in value.dims if self.c.space.base(d.axis) in there]
        order = [self.c.layouts.place(frame, axis) for axis in own]
        return value if order == sorted(order) else self.whole(value, [d.axis for d in value.dims])

    def whole(self, value: Value, axes: Sequence[str]) -> Value:
        """The value with all of these axes in full, and in their order."""
        value = self.spread(self.c.layouts.compact(value), axes)
        dims = tuple(Dim(axis) for axis in axes)
        if value.number or (value.dims == dims and not (value.loose and dims)):
            return value
        expr = self.c.layouts.aligned(value, dims)
        return Value(method(expr, "expand", self.c.lengths.shape(dims)), dims)

    def _spread(self, expr: Expr, matrix: Grouping, base: str, at: Expr) -> Expr:
        match matrix:
            case ByIndex(index):
                return method(self.c.groups(index), "spread", expr, at)
            case Blocks(count):
                width = Binary("//", (self.c.lengths.of(base), self.c.lengths.number(count)))
                return method(expr, "repeat_interleave", width, at)
            case Chunks(size):
                return method(expr, "repeat_interleave", self.c.lengths.number(size), at)
            case Interleave(count):
                times = Binary("//", (self.c.lengths.of(base), self.c.lengths.number(count)))
                return call("runtime.tiled", expr, times, at)
            case _:
                raise TypeError(f"{matrix} has no cells")
