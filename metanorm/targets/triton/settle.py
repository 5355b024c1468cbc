"""Kernels for what is narrow: one phase each, and one that runs all phases in one program.

A phase goes through its cells some at a time. A statistic that tiles have measured is joined from
their parts, one of narrow values is taken in a loop over what it pools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.aggregation import Ones
from metanorm.ir.index import closure
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import POINTWISE, AxisMap, Count, Lookup, Pool, Ref, Rename, Update
from metanorm.ir.operands import operands
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Do, Expr, If, Name, Stmt, Tuple
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.joining import of_parts
from metanorm.targets.triton.kernel import function_of
from metanorm.targets.triton.phases import Phase
from metanorm.targets.triton.places import group_of_row
from metanorm.targets.triton.pooled import PoolPrinter
from metanorm.targets.triton.scope import COLUMN, Scope
from metanorm.targets.triton.steps import Keys, Parts, PhaseStep, SettleStep
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    call,
    cast,
    full,
    infix,
    is_given,
    lying,
    plus,
    times,
)

META = ("CELLS", "PARTS")  # cells at a time; parts, or elements of a pool, at a time


class SettlePrinter:
    """Prints the kernel of one phase. `partial` has the parts of the statistics that are joined,
    `available` are values that have arrays."""

    def __init__(
        self, context: KernelContext, phase: Phase, partial: Mapping[int, Parts],
        available: Collection[Ref], updates: Sequence[Update],
    ) -> None:  # fmt: skip
        self.f, self.partial, self.phase = context, partial, phase
        self.arguments = Arguments()
        self.s = CellScope(context, self.arguments, available=frozenset(available))
        self.s.enter()
        self.pools = PoolPrinter(self.s)
        self.axes = context.order(phase.members[0])
        self.arrays: list[tuple[str, Keys]] = []
        cells = self._places()
        for ref in phase.members:
            self._member(ref)
        found = [self.s.value(update.value) for update in updates]  # as it was before any of them
        for update, value in zip(updates, found):
            self._updated(update, value)
        self.changes = tuple(f"tensor {update.buffer}" for update in updates)
        here = cast(call("tl.program_id", ZERO), "INDEX")
        step = times(call("tl.num_programs", ZERO), Name("CELLS"))
        self.s.leave("first", (times(here, Name("CELLS")), cells, step))

    def step(self, name: str, doc: str) -> PhaseStep:
        """The kernel, with what a call has to bring."""
        keys = tuple(self.arguments.keys)
        function = function_of(name, doc, self.arguments, META, self.s.body)
        sizes = tuple(f"size {axis}" for axis in self.axes)
        return PhaseStep(
            function,
            (*keys, "REAL", "INDEX", *META),
            sizes,
            tuple(dict.fromkeys(self.pools.pooled)),
            tuple(self.arrays),
            self.changes,
        )

    def _places(self) -> Expr:
        """The place of each cell along its axes; what is returned is how many cells there are."""
        s, body = self.s, self.s.body
        cells = self.f.size(self.arguments, self.axes)
        variable = Name("cell")
        if len(self.axes) == 1:
            variable = Name(self.arguments.names.fresh(self.axes[0].lower()))
        lane = plus(Name("first"), lying(call("tl.arange", ZERO, Name("CELLS"))))
        body.append(Assign((variable,), lane))
        rest: Expr = variable
        for number, axis in reversed(list(enumerate(self.axes))):
            if len(self.axes) > 1:
                size = self.f.size(self.arguments, (axis,))
                name = Name(self.arguments.names.fresh(axis.lower()))
                body.append(Assign((name,), infix("%", rest, size) if number else rest))
                s.lies(axis, name, COLUMN)
                rest = infix("//", rest, size)
            else:
                s.lies(axis, variable, COLUMN)
        body.append(Assign((Name("in_cells"),), infix("<", variable, cells)))
        s.masks["column"] = Name("in_cells")
        members, arrays = self.phase.members, self.s.available
        if self.f.nest.grouped in self.axes and self.f.reads_groups(members, arrays):
            self._group_of_row()
        return cells

    def _group_of_row(self) -> None:
        cell = self.f.cell
        assert cell is not None
        name = Name(self.arguments.names.fresh(cell.lower()))
        group, sides = group_of_row(self.s)
        self.s.body.append(Assign((name,), group))
        self.s.lies(cell, name, sides)

    # ---- values

    def _member(self, ref: Ref) -> None:
        s, op = self.s, self.f.lets[ref].op
        if ref not in s.local and ref not in s.available:
            if ref in self.f.measured:
                self._joined(*self.f.measured[ref])
            elif isinstance(op, AxisMap):
                self.pools.softmax(ref, op)
            elif self._pools(ref):
                self.pools.pools(self._beside(ref))
        if ref in self.phase.stored:
            self._stored(ref, s.value(ref))

    def _pools(self, ref: Ref) -> bool:
        """Whether a value is a statistic of narrow ones."""
        own = isinstance(self.f.lets[ref].op, (Pool, Count)) and ref not in self.f.measured
        return own and not self.s.simple(ref)

    def _beside(self, ref: Ref) -> list[Ref]:
        """The statistics over the same axes that can be taken in one loop with this one."""
        axes = self.pools.axes(ref)
        return [
            other
            for other in self.phase.members
            if self._pools(other) and other not in self.s.local
            and other not in self.s.available and self.pools.axes(other) == axes
            and not self._waits(other)
        ]  # fmt: skip

    def _waits(self, ref: Ref) -> bool:
        """Whether a statistic is of values that this phase has yet to find."""

        def found_here(own: Ref) -> bool:
            along = isinstance(self.f.lets[own].op, AxisMap)
            return own in self.f.measured or self._pools(own) or along

        def read(own: Ref) -> list[Ref]:
            if own != ref and found_here(own):
                return []
            refs = operands(self.f.lets[own].op)
            return [r for r in refs if r not in self.s.local and r not in self.s.available]

        return any(found_here(own) for own in closure([ref], read) - {ref})

    def _joined(self, number: int, r: Reduction) -> None:
        """All results of a statistic, from its parts."""
        parts = self.partial[number]
        wanted = self.s.wanted(r.results[0][1])
        pointers = [
            self.arguments(key, f"{wanted}_{name.removesuffix('s')}s")
            for key, name in zip(parts.names, r.row.names)
        ]
        count = self.arguments(f"count {number}", f"{wanted}_parts")
        cells = self.f.size(self.arguments, r.cells) if r.cells else ONE
        place = self.s.place(r.cells)
        if place == ZERO:
            place = call("tl.zeros", Tuple((ONE, Name("CELLS"))), Name("INDEX"))
        given = (*pointers, place, Name("in_cells"), cells, count)
        meta = (Name("REAL"), Name("CELLS"), Name("PARTS"))
        names = {s: Name(self.arguments.names.fresh(self.s.wanted(ref))) for s, ref in r.results}
        order = [*(part for part in r.row.names if part in r.row.statistics), r.kind]
        targets = tuple(names.get(s, Name("_")) for s in order)
        self.s.body.append(Assign(targets, call(f"arithmetic.{of_parts(r.row)}", *given, *meta)))
        for statistic, ref in r.results:
            self.s.found(ref, names[statistic])

    # ---- results

    def _stored(self, ref: Ref, value: Expr) -> None:
        order = self.f.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.s.wanted(ref)}_of")
        sides = self.s.varies(order)
        self.s.body.append(self.s.store(pointer, self.s.place(order), sides, value))
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _updated(self, update: Update, value: Expr) -> None:
        """A buffer that follows a value."""
        pointer = self.arguments(f"tensor {update.buffer}", update.buffer)
        order = self.f.program.index.axes_of(update.buffer)
        sides = self.s.varies(order)
        body: list[Stmt] = []
        if update.averages:
            name = momenta(self.f.program)[update.momentum]
            momentum = full(self.arguments(f"momentum {name}", name))
            before = Name(self.arguments.names.fresh("before"))
            loaded = cast(self.s.load(pointer, self.s.place(order), sides), "REAL")
            body.append(Assign((before,), loaded))
            value = plus(before, times(infix("-", value, before), momentum))
        body.append(self.s.store(pointer, self.s.place(order), sides, value))
        self.s.body.append(If(is_given(pointer), tuple(body)))


@dataclass
class CellScope(Scope):
    """Values on the axes of a phase's cells: read where they are arrays, or else computed."""

    available: frozenset[Ref] = frozenset()

    def computed(self, ref: Ref) -> Expr:
        """The expression of a value."""
        let = self.context.lets[ref]
        if ref not in self.available:
            if isinstance(let.op, (Rename, Lookup)):
                return self.elsewhere(ref)
            if self.context.by_index(let):
                return self._rows_in_group(ref)
        return super().computed(ref)

    def simple(self, ref: Ref) -> bool:
        """Whether a value is computed where it is read."""
        let = self.context.lets[ref]
        elementwise = isinstance(let.op, POINTWISE) or self.context.by_index(let)
        return super().simple(ref) or (elementwise and ref not in self.available)

    def _rows_in_group(self, ref: Ref) -> Expr:
        """The number of rows in a group, times the lengths of what is counted with them."""
        op = self.context.lets[ref].op
        assert isinstance(op, Count) and self.context.cell is not None
        group = self.at[self.context.cell]
        starts = self.arguments("starts")
        sides = self.sides[self.context.cell]
        after = self.load(starts, plus(group, ONE), sides)
        rows = infix("-", after, self.load(starts, group, sides))
        whole = self.context.leaves(axis for axis, matrix in op.over if isinstance(matrix, Ones))
        if whole:
            rows = times(rows, self.context.size(self.arguments, whole))
        return cast(rows, "REAL")


def in_one_program(name: str, doc: str, phases: Sequence[PhaseStep]) -> SettleStep:
    """All phases, one after the other, with a barrier before one that reads what others have just
    written, or writes what they may still be reading."""
    if len(phases) == 1:
        return SettleStep(None, (), tuple(phases))
    arguments = Arguments()
    body: list[Stmt] = []
    meta: list[str] = []
    keys: list[str] = []
    touched: set[str] = set()
    written: set[str] = set()
    for number, phase in enumerate(phases, 1):
        given: list[Expr] = []
        for key, parameter in zip(phase.arguments, phase.kernel.parameters):
            if key in META:
                given.append(Name(f"{key}_{number}"))
            elif key in ("REAL", "INDEX"):
                given.append(Name(key))
            else:
                given.append(arguments(key, parameter.name))
        writes = {*(key for key, _ in phase.arrays), *phase.changes}
        if written & {*phase.arguments} or touched & writes:
            body.append(Do(call("tl.debug_barrier")))
            touched, written = set(), set()
        body.append(Do(call(phase.kernel.name, *given)))
        touched |= {*phase.arguments}
        written |= writes
        meta += [f"{word}_{number}" for word in META]
        keys += [f"{word} {number}" for word in META]
    function = function_of(name, doc, arguments, meta, tuple(body))
    return SettleStep(function, (*arguments.keys, "REAL", "INDEX", *keys), tuple(phases))
