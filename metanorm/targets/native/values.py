"""Print reads of narrow values as C: elements of arrays, or inlined expressions."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from copy import copy
from types import MappingProxyType

from metanorm.ir.aggregation import ByIndex, Ones
from metanorm.ir.index import closure
from metanorm.ir.nodes import Count, Inside, Link, Lookup, Number, Op, Position, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Prefix,
    Stmt,
    product,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.inlined import inlined
from metanorm.targets.native.members import shared
from metanorm.targets.native.pointwise import pointwise

AxisPositions = Mapping[str, Expr]
NO_LOCALS: Mapping[Ref, Expr] = MappingProxyType({})


class NarrowValues:
    """The narrow values of one kernel. `measured` are statistics; `array_refs` must have arrays."""

    def __init__(
        self, context: KernelContext, measured: Collection[Ref], array_refs: Collection[Ref]
    ) -> None:
        self.ctx = context
        self.measured = measured
        self.lets = context.program.index.lets
        self.inlined = inlined(context.program, context.nest.data_axes, array_refs)
        self.returned_refs = {ref for _, ref in context.program.outputs}  # to the caller, as arrays
        self.returned_refs |= {update.value for update in context.program.updates}
        self.elsewhere: Mapping[Ref, Callable[[AxisPositions], Expr]] = {}

    def beside(self, elsewhere: Mapping[Ref, Callable[[AxisPositions], Expr]]) -> NarrowValues:
        """The same values, and others whose place at a position these functions give."""
        values = copy(self)
        values.elsewhere = elsewhere
        return values

    def is_inline(self, ref: Ref) -> bool:
        """Whether reads print the value's expression, since it depends on lengths alone."""
        return self.is_known_from_sizes(ref) and ref not in self.returned_refs

    def is_known_from_sizes(self, ref: Ref) -> bool:
        """Whether a value depends on lengths and numbers alone."""
        op = self.lets[ref].op
        is_known = isinstance(op, (Number, Position, Inside, Count))
        return is_known and ref not in self.measured

    def has_array(self, ref: Ref) -> bool:
        """Whether a value has an array, in the order of its axes."""
        written_out = self.is_inline(ref) or ref in self.inlined
        return not written_out and ref not in self.ctx.matrices

    def loop_positions(self, axes: Sequence[str]) -> dict[str, Expr]:
        """The current position of the loops over these axes."""
        positions = {axis: Name(self.ctx.variables[axis]) for axis in axes}
        if self.ctx.group_axis is not None and self.ctx.nest.grouped_axis in positions:
            positions.setdefault(self.ctx.group_axis, Name(self.ctx.variables[self.ctx.group_axis]))
        return {**positions}

    def value(self, ref: Ref, at: AxisPositions, local: Mapping[Ref, Expr] = NO_LOCALS) -> Expr:
        """A value at the given positions. `local` has the values that are variables there."""
        if ref in local:
            return local[ref]
        if ref in self.elsewhere:
            return self.elsewhere[ref](at)
        if self.is_inline(ref):
            return self.sizes_expression(ref, at)
        if ref in self.inlined:
            return self.inlined_expression(ref, at, local)
        if ref in self.ctx.matrices:
            axes = self.ctx.matrices[ref]
            inner_axis = [axis for axis in at if axis in axes][
                -1
            ]  # entries are contiguous along it
            function = "entry" if inner_axis == axes[1] else "entry_across"
            return Apply(
                function, (Prefix("&", shared(self.ctx.name(ref))), *(at[axis] for axis in axes))
            )
        array = shared(self.ctx.name(ref))
        return Element(array, self.ctx.index(self.ctx.axis_order(ref), at))

    def reads_groups(self, refs: Iterable[Ref]) -> bool:
        """Whether these values read a value per group of rows."""

        def read_refs(ref: Ref) -> tuple[Ref, ...]:
            return () if ref in self.measured else operands(self.lets[ref].op)

        def inlined_refs(ref: Ref) -> tuple[Ref, ...]:
            return read_refs(ref) if ref in self.inlined else ()

        all_read = closure([r for ref in refs for r in read_refs(ref)], inlined_refs)
        return any(self.ctx.group_axis in self.lets[ref].type.axes for ref in all_read)

    def line_loop(self, axis: str, body: Sequence[Stmt], of: Ref) -> For:
        """A loop along an axis for a value, which may read values of the group of each row."""
        if axis == self.ctx.nest.grouped_axis and self.reads_groups([of]):
            body = [self.ctx.group_declaration(), *body]
        return For(self.ctx.variables[axis], cir.Number(0), self.ctx.size(axis), tuple(body))

    def sizes_expression(self, ref: Ref, at: AxisPositions) -> Expr:
        """The expression of a value that depends on lengths and numbers alone."""
        op = self.lets[ref].op
        if isinstance(op, Position):
            return Prefix("(real)", at[op.axis])
        if isinstance(op, Inside):
            return self.ctx.is_inside(op.piece, at[self.ctx.whole_axis(op.piece)])
        if isinstance(op, Number):
            return self.ctx.scalar(op.value)
        assert isinstance(op, Count)
        return Prefix("(real)", self._count(op, at))

    def inlined_expression(self, ref: Ref, at: AxisPositions, local: Mapping[Ref, Expr]) -> Expr:
        """The expression of an inlined value."""
        op = self.lets[ref].op
        if isinstance(op, Link):  # the loop goes along edges, and each edge counts as one
            return cir.Number(1)
        if isinstance(op, Rename):
            return self.value(op.value, {**at, op.old: at[op.new]})
        if isinstance(op, Lookup):
            assert isinstance(op.index, int)
            return self.value(op.table, {**at, op.axis: cir.Number(op.index)})
        return self.pointwise_expression(op, at, local)

    def pointwise_expression(self, op: Op, at: AxisPositions, local: Mapping[Ref, Expr]) -> Expr:
        """The expression of an operation that reads its operands at the same position."""
        return pointwise(self.ctx, op, lambda operand: self.value(operand, at, local))

    def _count(self, op: Count, at: AxisPositions) -> Expr:
        count: Expr = cir.Number(1)
        for axis, matrix in op.over:
            if isinstance(matrix, Ones):
                count = product(count, self.ctx.volume(self.ctx.space.leaves(axis)))
            else:
                assert isinstance(matrix, ByIndex) and self.ctx.group_axis is not None
                group = at[self.ctx.group_axis]
                first, after = self.ctx.group_row_range(group)
                count = product(count, Infix("-", after, first))
        return count
