"""Print a nest as the C functions of one kernel: set-up, sweeps, narrow values, and the entry."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property

from metanorm.ir.nodes import Input, Ref
from metanorm.nest.nest import Block, Nest
from metanorm.targets.native import cir
from metanorm.targets.native.cell_blocks import cell_blocks, refs_read_elsewhere
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Definition,
    ExprStmt,
    Function,
    Name,
    Stmt,
    Table,
    address,
    dot,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.exact_results import exact_results
from metanorm.targets.native.joining import accumulator_kind
from metanorm.targets.native.members import argument, shared
from metanorm.targets.native.names import SharedNames
from metanorm.targets.native.narrow import NarrowPrinter
from metanorm.targets.native.scan_sweep import ScanSweepPrinter
from metanorm.targets.native.setup import VALUES, Setup
from metanorm.targets.native.sparsestmax import on_simplex
from metanorm.targets.native.sweep import SweepPrinter


class KernelPrinter:
    """Prints one kernel in one layout.

    Names depend on all `layouts`, so that most definitions are equal in all of them and are printed
    once.
    """

    def __init__(self, nest: Nest, layouts: Sequence[Nest], names: SharedNames) -> None:
        self.nest, self.program, self.loops = nest, nest.program, nest.loops
        self.fields, self.entry_name = nest.fields, nest.direction
        outputs = dict(nest.program.outputs)
        inputs = {let.op.name: let.name for let in nest.program.body if isinstance(let.op, Input)}
        self.saved = [outputs.get(name) or inputs[name] for name in nest.kept]
        self.ctx = KernelContext(nest, layouts, names)
        for field in self.fields:
            self.ctx.field(field.name)
        self.cell_blocks = cell_blocks(nest)
        self.cell_printer = NarrowPrinter(self.ctx, self.cell_blocks, refs_read_elsewhere(nest))
        stored = [let.name for let in self.program.body if let.name in self.cell_printer.stored]
        self.setup = Setup(self.ctx, self.fields, stored, self.saved)

    @cached_property
    def sweep_names(self) -> list[str]:
        """The names of the sweeps: what each measures first, or writes."""
        names: list[str] = []
        for sweep in self.nest.sweeps:
            name = self._sweep_name(sweep)
            count = sum(re.fullmatch(rf"{name}(_again)*", other) is not None for other in names)
            names.append(name + "_again" * count)
        return names

    def _sweep_name(self, sweep: Block) -> str:
        if sweep.measures:
            return f"measure_{self.ctx.name(self.nest.reductions[sweep.measures[0]].value)}"
        return f"write_{self.ctx.name(sweep.writes[0][0]).removeprefix('to_')}"

    # ---- definitions

    def definitions(self) -> list[Definition]:
        """All definitions of the kernel.

        The definitions that depend on the layout stand together: first the loops, then behind the
        structures the strides, the cells of reductions and the sweeps.
        """
        keeps = self.saved and self.entry_name == "forward"
        cell_functions = [
            self.setup.prepare(),
            *self._cell_functions(),
        ]  # printed first, so that all layouts name values alike
        return [
            cir.Define("DIMS", str(len(self.program.inputs[0].dims))),
            *self._loops(),
            *([cir.Define("SCANS", "1")] if self.ctx.scans else ()),
            *([cir.Define("SIMPLEX", "1")] if on_simplex(self.nest) else ()),
            cir.Include("metanorm.h"),
            self.setup.call(),
            self.setup.values(),
            *self._sweeps(),
            *cell_functions,
            *self._plan(),
            *([cir.Expansion("KEPT", ())] if keeps else ()),
            cir.Expansion("ENTRY", (self.entry_name,)),
        ]

    def _loops(self) -> list[Definition]:
        """The numbers of the loops, which of them go over groups and rows, and the island axes."""
        axes = [self.ctx.axis(group) for group in self.loops]
        groups_loop = (
            axes.index(self.ctx.axis((self.ctx.group_axis,))) if self.ctx.group_axis else -1
        )
        rows_loop = (
            axes.index(self.ctx.axis((self.nest.grouped_axis,))) if self.nest.grouped_axis else -1
        )
        looped_axes = {axis for axis in self.ctx.sometimes_ranged_axes if (axis,) in self.loops}
        constants = [
            self.ctx.axis((axis,)) for axis in sorted(self.ctx.sometimes_ranged_axes - looped_axes)
        ]
        group_defines = [cir.Define("GROUPS", str(groups_loop)), cir.Define("ROWS", str(rows_loop))]
        return [
            *(group_defines if self.nest.grouped_axis else ()),
            *([cir.Define("LINKS", "1")] if self.ctx.links else ()),
            cir.Enum((*axes, "AXES"), tuple((axis, -1) for axis in constants)),
            cir.Define("ISLANDS", f"({self._bits(self.nest.islands)})"),
            self.setup.lengths(),
            self.setup.strides(),
            *map(self._cell, range(len(self.nest.reductions))),
        ]

    def _sweeps(self) -> list[Definition]:
        """The functions of cells and sweeps, and the table of reductions."""
        functions: list[Definition] = []
        for i, sweep in enumerate(self.nest.sweeps, 1):
            kind = ScanSweepPrinter if sweep.scans else SweepPrinter
            printer = kind(self.ctx, self.cell_printer, sweep)
            functions.append(printer.function(self.sweep_names[i - 1], self._sweep_doc(i)))
        if self.nest.reductions:
            rows = [
                f"{{{self._bits(r.cells)}, {accumulator_kind(r.row)}, {int(r.terminal)}}}"
                for r in self.nest.reductions
            ]
            functions.append(Table("reduction", "reductions[]", tuple(rows)))
        return functions

    def _cell(self, number: int) -> cir.Macro:
        """The macro that gives a cell of a reduction, by the axes that its cells have."""
        reduction = self.nest.reductions[number]
        at = self.cell_printer.values.loop_positions(reduction.cells)
        positions = tuple(self.ctx.variables[axis] for axis in reduction.cells)
        cell = self.cell_printer.cell(Name("a"), reduction, at)
        return cir.Macro(f"CELL_{number}", ("a", *positions), (cell,), self._measure(number))

    def _cell_functions(self) -> list[Definition]:
        """The functions that compute per-cell values: first, after each sweep, and last."""
        finalizers = (self._cell_function(i) for i in range(len(self.nest.sweeps) + 1))
        functions = (self._begin_function(), *finalizers, self._finish_function())
        return [function for function in functions if function]

    def _plan(self) -> list[Definition]:
        """The tables that the scheduler in `metanorm/schedule.h` reads."""
        stages = ["{NULL, before_sweeps, 0, 0}"] if self._cell_function(0) else []
        number = 0
        for i, sweep in enumerate(self.nest.sweeps, 1):
            finalizer = self._cell_function(i)
            after = finalizer.name if finalizer else "NULL"
            stages.append(
                f"{{{self.sweep_names[i - 1]}, {after}, {number}, {len(sweep.measures)}}}"
            )
            number += len(sweep.measures)
        reductions = "reductions" if self.nest.reductions else "NULL"
        begin = "begin" if self._begin_function() else "NULL"
        finish = "finish" if self._finish_function() else "NULL"
        plan = (
            f"prepare, {begin}, {finish}", f"stages, {len(stages)}",
            f"{reductions}, {len(self.nest.reductions)}", "ISLANDS",
            self._bits(self.nest.whole_axes),
        )  # fmt: skip
        return [Table("stage", "stages[]", tuple(stages)), Table("kernel", "plan", plan)]

    def _bits(self, axes: Sequence[str]) -> str:
        """A mask with a bit for each loop over some of these axes."""
        bits = [f"1u << {self.ctx.axis(g)}" for g in self.loops if set(g) <= set(axes)]
        return " | ".join(bits) or "0"

    # ---- narrow values

    def _begin_function(self) -> Function | None:
        body = self.cell_printer.statements(self.cell_blocks[0])
        doc = "What is computed before the first sweep over the data."
        parameters = (("void *", "values_"),)
        return Function(doc, "void", "begin", parameters, (VALUES, *body)) if body else None

    def _cell_function(self, number: int) -> Function | None:
        body = self.cell_printer.statements(self.cell_blocks[1 + number])
        if not body:
            return None
        if number == 0:
            doc = "What is computed for the islands of the range before their first sweep."
            return self._function_of_cells("before_sweeps", doc, body)
        sweep = self.sweep_names[number - 1]
        doc = f"What follows from `{sweep}` for the islands of the range."
        return self._function_of_cells(f"after_{sweep}", doc, body)

    def _function_of_cells(self, name: str, doc: str, body: Sequence[Stmt]) -> Function:
        parameters = (("void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"))
        return Function(doc, "void", name, parameters, (VALUES, *body))

    def _finish_function(self) -> Function | None:
        body = self.cell_printer.statements(self.cell_blocks[-1])
        lets = self.cell_printer.lets
        end = self.nest.block("end")
        for update in end.updates:
            size = self.ctx.volume(self.nest.array[update.array].axes)
            buffer = address(argument(self.ctx.field(update.array)))
            value = shared(self.ctx.name(update.value))
            if update.momentum is not None:
                momentum = argument(update.momentum)
                body.append(ExprStmt(Apply("track", (buffer, value, size, momentum))))
            else:
                body.append(ExprStmt(Apply("give", (buffer, value, size))))
        exact = exact_results(self.nest)
        for array, ref in end.writes:
            if array in exact:
                body.append(self._exact_result(array, ref))
            elif self.nest.array[array].role == "returned":
                size = self.ctx.volume(lets[ref].type.axes)
                pointer = address(argument(self.ctx.field(array)))
                body.append(ExprStmt(Apply("give", (pointer, shared(self.ctx.name(ref)), size))))
        if not body:
            return None
        doc = "What is computed after the last sweep over the data."
        return self._function_of_cells("finish", doc, body)

    def _exact_result(self, array: str, ref: Ref) -> Stmt:
        """The statement that writes a result in float64, if it is wanted."""
        pointer = dot(argument(self.ctx.field(array)), "data")
        exact = Declare("double *", "exact", pointer)
        loops = self.cell_printer.exact(ref, Name("exact"), self.cell_blocks[-1])
        return cir.If(pointer, (exact, *loops))

    def _sweep_doc(self, number: int) -> str:
        sweep = self.nest.sweeps[number - 1]
        clauses = [self._measure(measured) for measured in sweep.measures]
        clauses += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
        return f"A sweep: {'; '.join(clauses)}."

    def _measure(self, number: int) -> str:
        """A reduction in words, for comments."""
        r = self.nest.reductions[number]
        cells = ", ".join(r.cells) or "all"
        value = r.value if not r.value.startswith("%") else self.ctx.name(r.value)
        return f"{r.row.title} of {value} per {cells}"
