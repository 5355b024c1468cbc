"""Print kernels for narrow values: one per phase, and one that runs several phases in one program.

A phase goes over its cells, `CELLS` at a time. It joins statistics of the data from the parts that
tiles have stored, and takes statistics of narrow values in loops over their pools.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.aggregation import Ones
from metanorm.ir.index import closure
from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import POINTWISE, AxisMap, Count, Pool, Recurrence, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Update
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Expr, ExprStmt, If, Name, Stmt, Tuple
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.joining import joining_function
from metanorm.targets.triton.kernel import kernel_function
from metanorm.targets.triton.lines import print_sparsestmax
from metanorm.targets.triton.phases import RELOCATIONS, Phase
from metanorm.targets.triton.pool_loops import PoolPrinter
from metanorm.targets.triton.scope import COLUMN, Array, Scope, stored_array
from metanorm.targets.triton.states import print_states
from metanorm.targets.triton.steps import Keys, Parts, PhasesStep, PhaseStep
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    as_row,
    as_tile,
    call,
    cast,
    infix,
    is_not_none,
    plus,
    times,
)
from metanorm.targets.triton.tile_indices import group_of_row

META = ("CELLS", "PARTS")  # cells at a time; parts, or elements of a pool, at a time


class PhasePrinter:
    """Prints the kernel of one phase.

    `partial` has the stored parts of each reduction, by its number. `available` are the values that
    have arrays.
    """

    def __init__(
        self, context: KernelContext, phase: Phase, partial: Mapping[int, Parts],
        available: Collection[Ref], updates: Sequence[Update],
    ) -> None:  # fmt: skip
        self.ctx, self.partials, self.phase = context, partial, phase
        self.arguments = Arguments()
        self.scope = CellScope(context, self.arguments, available=frozenset(available))
        self.scope.enter_loop()
        self.pools = PoolPrinter(self.scope)
        self.lengths_of_steps: list[Keys] = []
        self.axes = context.phase_axes(phase.members[0])
        self.arrays: list[Array] = []
        cells = self._cell_positions()
        for ref in phase.members:
            self._compute_member(ref)
        values = [self.scope.value(update.value) for update in updates]  # read before any update
        for update, value in zip(updates, values):
            self._update_buffer(update, value)
        self.changes = tuple(f"tensor {update.buffer}" for update in updates)
        program = cast(call("tl.program_id", ZERO), "INDEX")
        step = times(call("tl.num_programs", ZERO), Name("CELLS"))
        self.scope.leave_loop("first", (times(program, Name("CELLS")), cells, step))

    def step(self, name: str, doc: str) -> PhaseStep:
        """The kernel, with the keys of its arguments and the arrays that it stores."""
        keys = tuple(self.arguments.keys)
        function = kernel_function(name, doc, self.arguments, META, self.scope.body)
        sizes = tuple(f"size {axis}" for axis in self.axes)
        return PhaseStep(
            function,
            (*keys, "REAL", "INDEX", *META),
            sizes,
            tuple(dict.fromkeys([*self.pools.pooled, *self.lengths_of_steps])),
            tuple(self.arrays),
            self.changes,
        )

    def _cell_positions(self) -> Expr:
        """Set the position of each cell along its axes. Returns the number of cells."""
        s, body = self.scope, self.scope.body
        cells = self.ctx.size(self.arguments, self.axes)
        variable = Name("cell")
        if len(self.axes) == 1:
            variable = Name(self.arguments.names.fresh(self.axes[0].lower()))
        lane = plus(Name("first"), as_row(call("tl.arange", ZERO, Name("CELLS"))))
        body.append(Assign((variable,), lane))
        remaining: Expr = variable
        for number, axis in reversed(list(enumerate(self.axes))):
            if len(self.axes) > 1:
                size = self.ctx.size(self.arguments, (axis,))
                name = Name(self.arguments.names.fresh(axis.lower()))
                body.append(Assign((name,), infix("%", remaining, size) if number else remaining))
                s.set_position(axis, name, COLUMN)
                remaining = infix("//", remaining, size)
            else:
                s.set_position(axis, variable, COLUMN)
        body.append(Assign((Name("in_cells"),), infix("<", variable, cells)))
        s.masks["column"] = Name("in_cells")
        members, arrays = self.phase.members, self.scope.available
        if self.ctx.nest.grouped_axis in self.axes and self.ctx.reads_groups(members, arrays):
            self._group_of_row()
        return cells

    def _group_of_row(self) -> None:
        cell = self.ctx.group_axis
        assert cell is not None
        name = Name(self.arguments.names.fresh(cell.lower()))
        group, sides = group_of_row(self.scope)
        self.scope.body.append(Assign((name,), group))
        self.scope.set_position(cell, name, sides)

    # ---- values

    def _compute_member(self, ref: Ref) -> None:
        s, op = self.scope, self.ctx.lets[ref].op
        if ref not in s.local and ref not in s.available:
            if ref in self.ctx.measured:
                self._join_parts(*self.ctx.measured[ref])
            elif (line_axis := self.ctx.line_axis(ref)) is not None:
                self.arrays.append(self._print_line(ref))
                self.lengths_of_steps.append((f"size {line_axis}",))
                return
            elif isinstance(op, AxisMap):
                self.pools.softmax(ref, op)
            elif self._is_narrow_pool(ref):
                self.pools.pools(self._pools_in_same_loop(ref))
        if ref in self.phase.stored:
            self.arrays.append(stored_array(s, ref, s.value(ref)))

    def _print_line(self, ref: Ref) -> Array:
        op = self.ctx.lets[ref].op
        if isinstance(op, Recurrence):
            return print_states(self.scope, ref, op)
        assert isinstance(op, AxisMap)
        return print_sparsestmax(self.scope, ref, op)

    def _is_narrow_pool(self, ref: Ref) -> bool:
        """Whether a value is a statistic of narrow values."""
        is_narrow_pool = (
            isinstance(self.ctx.lets[ref].op, (Pool, Count)) and ref not in self.ctx.measured
        )
        return is_narrow_pool and not self.scope.is_computed_in_place(ref)

    def _pools_in_same_loop(self, ref: Ref) -> list[Ref]:
        """The statistics over the same axes that one loop can take together with this one."""
        domain = self.pools.domain(ref)
        return [
            candidate
            for candidate in self.phase.members
            if self._is_narrow_pool(candidate) and candidate not in self.scope.local
            and candidate not in self.scope.available and self.pools.domain(candidate) == domain
            and not self._waits_for_phase(candidate)
        ]  # fmt: skip

    def _waits_for_phase(self, ref: Ref) -> bool:
        """Whether a statistic depends on another one that this phase has not computed yet."""

        def found_here(candidate: Ref) -> bool:
            is_axis_map = isinstance(self.ctx.lets[candidate].op, AxisMap)
            return candidate in self.ctx.measured or self._is_narrow_pool(candidate) or is_axis_map

        def pending_operands(candidate: Ref) -> list[Ref]:
            if candidate != ref and found_here(candidate):
                return []
            refs = operands(self.ctx.lets[candidate].op)
            return [r for r in refs if r not in self.scope.local and r not in self.scope.available]

        return any(found_here(candidate) for candidate in closure([ref], pending_operands) - {ref})

    def _join_parts(self, number: int, r: Reduction) -> None:
        """Join the parts of a reduction, and bind all of its results."""
        parts = self.partials[number]
        preferred = self.scope.preferred_name(r.results[0][1])
        pointers = [
            self.arguments(key, f"{preferred}_{name.removesuffix('s')}s")
            for key, name in zip(parts.names, r.row.names)
        ]
        count = self.arguments(f"count {number}", f"{preferred}_parts")
        cells = self.ctx.size(self.arguments, r.cells) if r.cells else ONE
        offset = self.scope.offset(r.cells)
        if offset == ZERO:
            offset = call("tl.zeros", Tuple((ONE, Name("CELLS"))), Name("INDEX"))
        arguments = (*pointers, offset, Name("in_cells"), cells, count)
        meta = (Name("REAL"), Name("CELLS"), Name("PARTS"))
        names = {
            s: Name(self.arguments.names.fresh(self.scope.preferred_name(ref)))
            for s, ref in r.results
        }
        order = [*(part for part in r.row.names if part in r.row.statistics), r.kind]
        targets = tuple(names.get(s, Name("_")) for s in order)
        self.scope.body.append(
            Assign(targets, call(f"arithmetic.{joining_function(r.row)}", *arguments, *meta))
        )
        for statistic, ref in r.results:
            self.scope.bind(ref, names[statistic])

    # ---- results

    def _update_buffer(self, update: Update, value: Expr) -> None:
        """Write a value to a buffer, or move the buffer towards it by the momentum."""
        pointer = self.arguments(f"tensor {update.buffer}", update.buffer)
        order = self.ctx.program.index.axes_of(update.buffer)
        sides = self.scope.sides_of(order)
        body: list[Stmt] = []
        if update.averages:
            name = momenta(self.ctx.program)[update.momentum]
            momentum = as_tile(self.arguments(f"momentum {name}", name))
            before = Name(self.arguments.names.fresh("before"))
            loaded = cast(self.scope.load(pointer, self.scope.offset(order), sides), "REAL")
            body.append(Assign((before,), loaded))
            value = plus(before, times(infix("-", value, before), momentum))
        body.append(self.scope.store(pointer, self.scope.offset(order), sides, value))
        self.scope.body.append(If(is_not_none(pointer), tuple(body)))


@dataclass
class CellScope(Scope):
    """The values of a phase: arrays are loaded, other values are computed."""

    available: frozenset[Ref] = frozenset()

    def expression(self, ref: Ref) -> Expr:
        """The expression of a value."""
        let = self.ctx.lets[ref]
        if ref not in self.available:
            if isinstance(let.op, RELOCATIONS):
                return self.relocated(ref)
            if self.ctx.is_group_size(let):
                return self._rows_in_group(ref)
        return super().expression(ref)

    def is_computed_in_place(self, ref: Ref) -> bool:
        """Whether this kernel computes a value itself."""
        let = self.ctx.lets[ref]
        elementwise = isinstance(let.op, POINTWISE) or self.ctx.is_group_size(let)
        return super().is_computed_in_place(ref) or (elementwise and ref not in self.available)

    def _rows_in_group(self, ref: Ref) -> Expr:
        """The number of rows in a group, times the lengths of the other counted axes."""
        op = self.ctx.lets[ref].op
        assert isinstance(op, Count) and self.ctx.group_axis is not None
        group = self.at[self.ctx.group_axis]
        starts = self.arguments("starts")
        sides = self.sides[self.ctx.group_axis]
        after = self.load(starts, plus(group, ONE), sides)
        rows = infix("-", after, self.load(starts, group, sides))
        counted_axes = self.ctx.leaves(axis for axis, matrix in op.over if isinstance(matrix, Ones))
        if counted_axes:
            rows = times(rows, self.ctx.size(self.arguments, counted_axes))
        return cast(rows, "REAL")


def in_one_program(name: str, doc: str, phases: Sequence[PhaseStep]) -> PhasesStep:
    """A kernel that runs phases one after the other in one program.

    A barrier stands before a phase that reads what an earlier one has written, or writes what an
    earlier one may still be reading.
    """
    if len(phases) == 1:
        return PhasesStep(None, (), tuple(phases))
    arguments = Arguments()
    body: list[Stmt] = []
    meta: list[str] = []
    keys: list[str] = []
    touched: set[str] = set()
    written: set[str] = set()
    for number, phase in enumerate(phases, 1):
        arguments_of_phase: list[Expr] = []
        for key, parameter in zip(phase.arguments, phase.kernel.parameters):
            if key in META:
                arguments_of_phase.append(Name(f"{key}_{number}"))
            elif key in ("REAL", "INDEX"):
                arguments_of_phase.append(Name(key))
            else:
                arguments_of_phase.append(arguments(key, parameter.name))
        writes = {*(key for key, _ in phase.arrays), *phase.changes}
        if written & {*phase.arguments} or touched & writes:
            body.append(ExprStmt(call("tl.debug_barrier")))
            touched, written = set(), set()
        body.append(ExprStmt(call(phase.kernel.name, *arguments_of_phase)))
        touched |= {*phase.arguments}
        written |= writes
        meta += [f"{meta_name}_{number}" for meta_name in META]
        keys += [f"{meta_name} {number}" for meta_name in META]
    function = kernel_function(name, doc, arguments, meta, tuple(body))
    return PhasesStep(function, (*arguments.keys, "REAL", "INDEX", *keys), tuple(phases))
