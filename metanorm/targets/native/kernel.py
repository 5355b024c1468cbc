"""Print a nest as the C functions of one kernel: set-up, sweeps, narrow values, and the entry."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Input, Ref
from metanorm.nest.nest import Nest
from metanorm.targets.native import cir
from metanorm.targets.native.cell_blocks import cell_blocks, refs_read_elsewhere
from metanorm.targets.native.cir import (
    Apply,
    CompoundLiteral,
    Declare,
    Definition,
    ExprStmt,
    Function,
    Name,
    Number,
    Prefix,
    Return,
    Stmt,
    Table,
    Unused,
    address,
    arrow,
    dot,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.joining import accumulator_kind
from metanorm.targets.native.members import argument, shared
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

    def __init__(self, nest: Nest, layouts: Sequence[Nest]) -> None:
        self.nest, self.program, self.loops = nest, nest.program, nest.loops
        self.fields, self.entry_name = nest.fields, nest.direction
        outputs = dict(nest.program.outputs)
        inputs = {let.op.name: let.name for let in nest.program.body if isinstance(let.op, Input)}
        self.saved = [outputs.get(name) or inputs[name] for name in nest.kept]
        self.ctx = KernelContext(nest, layouts)
        for field in self.fields:
            self.ctx.name(field.name)
        self.cell_blocks = cell_blocks(nest)
        self.cell_printer = NarrowPrinter(self.ctx, self.cell_blocks, refs_read_elsewhere(nest))
        stored = [let.name for let in self.program.body if let.name in self.cell_printer.stored]
        self.setup = Setup(self.ctx, self.fields, stored, self.saved)

    # ---- definitions

    def definitions(self) -> list[Definition]:
        """All definitions of the kernel.

        The definitions that depend on the layout stand together: first the loops, then behind the
        structures the strides, the cells of reductions and the sweeps.
        """
        size_function = (
            [self._kept_function()] if self.saved and self.entry_name == "forward" else []
        )
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
            self.setup.strides(),
            *self._sweeps(),
            *cell_functions,
            *self._plan(),
            *size_function,
            self._entry_function(),
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
        ]

    def _sweeps(self) -> list[Definition]:
        """The functions of cells and sweeps, and the table of reductions."""
        functions: list[Definition] = [
            self._cell(number) for number in range(len(self.nest.reductions))
        ]
        for i, sweep in enumerate(self.nest.sweeps, 1):
            kind = ScanSweepPrinter if sweep.scans else SweepPrinter
            printer = kind(self.ctx, self.cell_printer, sweep)
            functions.append(printer.function(f"sweep_{i}", self._sweep_doc(i)))
        if self.nest.reductions:
            rows = [
                f"{{{self._bits(r.cells)}, {accumulator_kind(r.row)}, {int(r.terminal)}}}"
                for r in self.nest.reductions
            ]
            functions.append(Table("reduction", "reductions[]", tuple(rows)))
        return functions

    def _cell(self, number: int) -> Function:
        reduction = self.nest.reductions[number]
        at = self.cell_printer.values.loop_positions(reduction.cells)
        axis_parameters = tuple(("int64_t", self.ctx.variables[axis]) for axis in reduction.cells)
        parameters = (("const values *", "v"), ("const accumulator *", "a"), *axis_parameters)
        cell = self.cell_printer.cell(Name("a"), reduction, at)
        body = (Unused(("v",)), Return(cell))
        return Function(
            f"The cell of the {self._measure(number)}.",
            "int64_t", f"cell_{number}", parameters, body, is_inline=True,
        )  # fmt: skip

    def _cell_functions(self) -> list[Definition]:
        """The functions that compute per-cell values: first, after each sweep, and last."""
        finalizers = (self._cell_function(i) for i in range(len(self.nest.sweeps) + 1))
        return [
            self._begin_function(),
            *(finalizer for finalizer in finalizers if finalizer),
            self._finish_function(),
        ]

    def _plan(self) -> list[Definition]:
        """The tables that the scheduler in `metanorm/schedule.h` reads."""
        stages = ["{NULL, finalize_0, 0, 0}"] if self._cell_function(0) else []
        number = 0
        for i, sweep in enumerate(self.nest.sweeps, 1):
            finalizer = f"finalize_{i}" if self._cell_function(i) else "NULL"
            stages.append(f"{{sweep_{i}, {finalizer}, {number}, {len(sweep.measures)}}}")
            number += len(sweep.measures)
        reductions = "reductions" if self.nest.reductions else "NULL"
        plan = (
            "prepare, begin, finish", f"stages, {len(stages)}",
            f"{reductions}, {len(self.nest.reductions)}", "ISLANDS",
            self._bits(self.nest.whole_axes),
        )  # fmt: skip
        return [Table("stage", "stages[]", tuple(stages)), Table("kernel", "plan", plan)]

    def _bits(self, axes: Sequence[str]) -> str:
        """A mask with a bit for each loop over some of these axes."""
        bits = [f"1u << {self.ctx.axis(g)}" for g in self.loops if set(g) <= set(axes)]
        return " | ".join(bits) or "0"

    # ---- narrow values

    def _begin_function(self) -> Function:
        body = self.cell_printer.statements(self.cell_blocks[0])
        doc = "What is computed before the first sweep over the data."
        head = [VALUES] if body else [Unused(("values_",))]
        return Function(doc, "void", "begin", (("void *", "values_"),), (*head, *body))

    def _cell_function(self, number: int) -> Function | None:
        body = self.cell_printer.statements(self.cell_blocks[1 + number])
        if not body:
            return None
        doc = f"What follows from sweep {number} for the islands of the range."
        if number == 0:
            doc = "What is computed for the islands of the range before their first sweep."
        return self._function_of_cells(f"finalize_{number}", doc, body)

    def _function_of_cells(self, name: str, doc: str, body: Sequence[Stmt]) -> Function:
        parameters = (("void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"))
        unused: list[Stmt] = [Unused(("r", "a", "v"))]
        return Function(doc, "void", name, parameters, (VALUES, *unused, *body))

    def _finish_function(self) -> Function:
        body = self.cell_printer.statements(self.cell_blocks[-1])
        lets = self.cell_printer.lets
        end = self.nest.block("end")
        for update in end.updates:
            size = self.ctx.volume(self.nest.array[update.array].axes)
            buffer = address(argument(self.ctx.name(update.array)))
            value = shared(self.ctx.name(update.value))
            if update.momentum is not None:
                momentum = argument(update.momentum)
                body.append(ExprStmt(Apply("track", (buffer, value, size, momentum))))
            else:
                body.append(ExprStmt(Apply("give", (buffer, value, size))))
        for array, ref in end.writes:
            if array in self.nest.exact_results:
                body.append(self._exact_result(array, ref))
            elif self.nest.array[array].role == "returned":
                size = self.ctx.volume(lets[ref].type.axes)
                pointer = address(argument(self.ctx.name(array)))
                body.append(ExprStmt(Apply("give", (pointer, shared(self.ctx.name(ref)), size))))
        doc = "What is computed after the last sweep over the data."
        return self._function_of_cells("finish", doc, body)

    def _exact_result(self, array: str, ref: Ref) -> Stmt:
        """The statement that writes a result in float64, if it is wanted."""
        pointer = dot(argument(self.ctx.name(array)), "data")
        exact = Declare("double *", "exact", pointer)
        loops = self.cell_printer.exact(ref, Name("exact"), self.cell_blocks[-1])
        return cir.If(pointer, (exact, *loops))

    def _sweep_doc(self, number: int) -> str:
        sweep = self.nest.sweeps[number - 1]
        clauses = [self._measure(measured) for measured in sweep.measures]
        clauses += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
        return f"Sweep {number}: {'; '.join(clauses)}."

    def _measure(self, number: int) -> str:
        """A reduction in words, for comments."""
        r = self.nest.reductions[number]
        cells = ", ".join(r.cells) or "all"
        value = r.value if not r.value.startswith("%") else self.ctx.name(r.value)
        return f"{r.row.title} of {value} per {cells}"

    def _kept_function(self) -> Function:
        v = Name("v")
        body: tuple[Stmt, ...] = (
            Declare("values", "v"),
            Declare("arena", "memory", CompoundLiteral("", (Name("NULL"), Number(0)))),
            ExprStmt(Apply("prepare", (address(v), Name("call"), address(Name("memory"))))),
            Return(Prefix("(int64_t)", dot(v, "kept"))),
        )
        parameters = (("const call_fields *", "call"),)
        doc = "How many bytes are kept for the backward call."
        return Function(doc, "int64_t", "kept", parameters, body, exported=True)

    def _entry_function(self) -> Function:
        v, call = Name("v"), Name("call")
        body: list[Stmt] = [Declare("values", "v")]
        arguments = (
            address(Name("plan")), address(v), address(dot(v, "shape")), call,
            arrow(call, "threads"),
        )  # fmt: skip
        body.append(Return(Apply("launch", arguments)))
        return Function(
            "",
            "int",
            self.entry_name,
            (("const call_fields *", "call"),),
            tuple(body),
            exported=True,
        )
