"""Narrow values as expressions of C: elements of arrays, and what is written out instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from metanorm.ir.aggregation import ByIndex, Ones
from metanorm.ir.index import closure
from metanorm.ir.nodes import Count, Link, Number, Op, Position, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Element, Expr, Infix, Name, Prefix, product
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.inlined import inlined
from metanorm.targets.native.pointwise import pointwise

At = Mapping[str, Expr]
NOTHING: Mapping[Ref, Expr] = MappingProxyType({})


class Values:
    """The narrow values of one kernel. `measured` are statistics, `kept` those that need arrays."""

    def __init__(
        self, context: KernelContext, measured: Collection[Ref], kept: Collection[Ref]
    ) -> None:
        self.f = context
        self.measured = measured
        self.lets = context.program.index.lets
        self.inlined = inlined(context.program, context.nest.data_axes, kept)
        self.given = {ref for _, ref in context.program.outputs}  # to the caller, as arrays
        self.given |= {update.value for update in context.program.updates}

    def inline(self, ref: Ref) -> bool:
        """Whether a value is written out, since it is known from the sizes alone."""
        return self.sized(ref) and ref not in self.given

    def sized(self, ref: Ref) -> bool:
        """Whether a value is known from the sizes alone."""
        op = self.lets[ref].op
        return isinstance(op, (Number, Position, Count)) and ref not in self.measured

    def has_array(self, ref: Ref) -> bool:
        """Whether a value lies in an array, in the order of its axes."""
        written_out = self.inline(ref) or ref in self.inlined
        return not written_out and ref not in self.f.matrices

    def here(self, axes: Sequence[str]) -> dict[str, Expr]:
        """The place that the loops over these axes are at."""
        there = {axis: Name(self.f.variables[axis]) for axis in axes}
        if self.f.cell is not None and self.f.nest.grouped in there:
            there.setdefault(self.f.cell, Name(self.f.variables[self.f.cell]))
        return {**there}

    def value(self, ref: Ref, at: At, local: Mapping[Ref, Expr] = NOTHING) -> Expr:
        """A value where the axes have the given places. `local` ones are at hand there."""
        if ref in local:
            return local[ref]
        if self.inline(ref):
            return self.from_sizes(ref, at)
        if ref in self.inlined:
            return self.written_out(ref, at, local)
        if ref in self.f.matrices:
            axes = self.f.matrices[ref]
            along = [axis for axis in at if axis in axes][-1]  # the inner loop: neighbours there
            read = "entry" if along == axes[1] else "entry_across"
            return Apply(read, (Name(f"&v->{self.f.name(ref)}"), *(at[axis] for axis in axes)))
        array = Name(f"v->{self.f.name(ref)}")
        return Element(array, self.f.index(self.f.order(ref), at))

    def reads_groups(self, refs: Iterable[Ref]) -> bool:
        """Whether values are computed from what each group of rows has."""

        def read(ref: Ref) -> tuple[Ref, ...]:
            return () if ref in self.measured else operands(self.lets[ref].op)

        def written_out(ref: Ref) -> tuple[Ref, ...]:
            return read(ref) if ref in self.inlined else ()

        found = closure([r for ref in refs for r in read(ref)], written_out)
        return any(self.f.cell in self.lets[ref].type.axes for ref in found)

    def from_sizes(self, ref: Ref, at: At) -> Expr:
        """A value that is known from the sizes alone."""
        op = self.lets[ref].op
        if isinstance(op, Position):
            return Prefix("(real)", at[op.axis])
        if isinstance(op, Number):
            return self.f.scalar(op.value)
        assert isinstance(op, Count)
        return Prefix("(real)", self._count(op, at))

    def written_out(self, ref: Ref, at: At, local: Mapping[Ref, Expr]) -> Expr:
        """A value that has no array, from those that have one or are `local`."""
        op = self.lets[ref].op
        if isinstance(op, Link):  # loops go along edges, of which each is one
            return cir.Number(1)
        if isinstance(op, Rename):
            return self.value(op.value, {**at, op.old: at[op.new]})
        return self.applied(op, at, local)

    def applied(self, op: Op, at: At, local: Mapping[Ref, Expr]) -> Expr:
        """An operation on values at the same place."""
        return pointwise(self.f, op, lambda operand: self.value(operand, at, local))

    def _count(self, op: Count, at: At) -> Expr:
        count: Expr = cir.Number(1)
        for axis, matrix in op.over:
            if isinstance(matrix, Ones):
                count = product(count, self.f.volume(self.f.space.leaves(axis)))
            else:
                assert isinstance(matrix, ByIndex) and self.f.cell is not None
                group = at[self.f.cell]
                first, after = self.f.rows_of(group)
                count = product(count, Infix("-", after, first))
        return count
