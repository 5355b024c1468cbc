"""Bring operands into shapes that torch broadcasts as their axes demand."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from metanorm.ir.aggregation import ByIndex, Grouping
from metanorm.ir.nodes import Ref
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import SizeOf
from metanorm.targets.python.pyir import Expr
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, method


class Broadcaster:
    """Brings the dimensions of several operands into one order."""

    def __init__(self, context: Context) -> None:
        self.ctx = context

    def common_dims(self, result_axes: Sequence[str], values: Sequence[Value]) -> Dims:
        """The dimensions against which all operands broadcast.

        They are those of an operand that has all axes; else those of an input, if an operand keeps
        dimensions of length one in its shape; else the axes of the result, in order.
        """
        axis_by_base = {self.ctx.space.base(a): a for a in reversed(result_axes)}
        bases = axis_by_base.keys()
        for value in values:
            if bases <= {self.ctx.space.base(d.axis) for d in value.dims}:
                return self._with_finest_axes(value.dims, axis_by_base)
        if any(not d.full for value in values for d in value.dims):
            for decl in self.ctx.program.inputs:
                full_dims = self.ctx.layouts.full_dims(decl.dims)
                if bases <= {d.axis for d in full_dims} and decl.sort == "tensor":
                    return self._with_finest_axes(full_dims, axis_by_base)
        return tuple(Dim(axis) for axis in result_axes)

    def _with_finest_axes(self, dims: Dims, axis_by_base: Mapping[str, str]) -> Dims:
        """The dimensions with the axes of the result, which may be cells of those of an operand."""
        axes = (axis_by_base.get(self.ctx.space.base(d.axis), d.axis) for d in dims)
        return tuple(d if axis == d.axis else replace(d, axis=axis) for d, axis in zip(dims, axes))

    def broadcast(self, values: Sequence[Value], axes: Sequence[str]) -> tuple[list[Expr], Dims]:
        """Operands that broadcast against each other, and the dimensions of the result."""
        values = [self.spread(v, axes) for v in values]
        common_dims = self.common_dims(axes, values)
        values = [
            self.ctx.layouts.without_other_dims(self.in_order(v, common_dims), common_dims)
            for v in values
        ]
        exprs = [self.ctx.layouts.aligned(v, common_dims) for v in values]
        starts = [self.ctx.layouts.dim_index(common_dims, d.axis) for v in values for d in v.dims]
        start = min(starts, default=len(common_dims))
        full = {d.axis for v in values for d in v.dims if d.full}
        return exprs, tuple(self._result_dim(d.axis, full) for d in common_dims[start:])

    def broadcast_sums(
        self, sums: Sequence[Value], near: Value | None, axes: Sequence[str]
    ) -> tuple[list[Expr], Expr | None, Dims]:
        """The same of sums of a pool. `near`, which is `None` in some calls, is printed as it is:
        the runtime gives it their shape."""
        full = {d.axis for v in sums for d in v.dims if d.full}
        if near is not None and full == {d.axis for d in near.dims if d.full}:
            exprs, dims = self.broadcast(sums, axes)
            return exprs, near.expr, dims
        exprs, dims = self.broadcast([*sums, *([near] if near else [])], axes)
        return exprs[: len(sums)], exprs[-1] if near else None, dims

    def _result_dim(self, axis: str, full: Collection[str]) -> Dim:
        """A dimension of the result. An operand may have its cells spread over the whole axis."""
        base = self.ctx.space.base(axis)
        return Dim(axis, axis in full) if axis in full or base not in full else Dim(base)

    def spread(self, value: Value, axes: Sequence[str]) -> Value:
        """The value with cells repeated for the positions of an axis, if `axes` has that axis."""
        for index, dim in enumerate(value.dims):
            cells_of = self.ctx.space[dim.axis].cells_of
            if cells_of is None or dim.axis in axes or cells_of[0] not in axes or not dim.full:
                continue
            base, matrix = cells_of
            position = self.ctx.layouts.position(value.dims, index)
            dims = tuple(Dim(base) if i == index else d for i, d in enumerate(value.dims))
            loose = value.may_lack_dims or self._may_be_one(matrix)
            value = Value(
                self._spread(value.expr, matrix, base, position), dims, may_lack_dims=loose
            )
        return value

    def _may_be_one(self, matrix: Grouping) -> bool:
        """Whether all positions may be a single group, whose value then broadcasts."""
        inputs = self.ctx.program.inputs
        return isinstance(matrix, ByIndex) and any(
            decl.name == matrix.index and not decl.required for decl in inputs
        )

    def in_order(self, value: Value, full_dims: Dims) -> Value:
        """The value, expanded to all of its dimensions if they have to be permuted."""
        if not value.may_lack_dims:
            return value
        bases = {self.ctx.space.base(d.axis) for d in full_dims}
        axes = [d.axis for d in value.dims if self.ctx.space.base(d.axis) in bases]
        order = [self.ctx.layouts.dim_index(full_dims, axis) for axis in axes]
        return (
            value if order == sorted(order) else self.expanded(value, [d.axis for d in value.dims])
        )

    def expanded(self, value: Value, axes: Sequence[str]) -> Value:
        """The value expanded to all of these axes, in their order."""
        value = self.spread(self.ctx.layouts.compact(value), axes)
        dims = tuple(Dim(axis) for axis in axes)
        if value.number or (value.dims == dims and not (value.may_lack_dims and dims)):
            return value
        expr = self.ctx.layouts.aligned(value, dims)
        return Value(method(expr, "expand", self.ctx.lengths.shape(dims)), dims)

    def with_all_dims(self, ref: Ref) -> Value:
        """The value as numbers with each of its dimensions, whatever inputs a call leaves out."""
        value = self.ctx.as_number(ref, self.ctx.not_none(ref))
        axes = self.ctx.lets[ref].type.axes
        return self.expanded(value, axes) if value.may_lack_dims else value

    def _spread(self, expr: Expr, matrix: Grouping, base: str, at: Expr) -> Expr:
        match matrix:
            case ByIndex(index):
                return method(self.ctx.groups(index), "spread", expr, at)
            case RegularPartition():
                times = self.ctx.lengths.number(matrix.pool_size(SizeOf(base)))
                if matrix.is_consecutive:
                    return method(expr, "repeat_interleave", times, at)
                return call("runtime.tiled", expr, times, at)
            case _:
                raise TypeError(f"{matrix} has no cells")
