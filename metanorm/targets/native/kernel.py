"""A plan as the functions of one kernel: set up, sweeps, narrow values, and the entry."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Input
from metanorm.nest.nest import Nest
from metanorm.targets.native import cir
from metanorm.targets.native.cells import groups_of_cells, read_elsewhere
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Definition,
    Do,
    Function,
    Name,
    Return,
    Stmt,
    Table,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.joining import kind
from metanorm.targets.native.narrow import Narrow
from metanorm.targets.native.setup import VALUES, Setup
from metanorm.targets.native.sweep import SweepPrinter


class KernelPrinter:
    """Prints one kernel."""

    def __init__(self, nest: Nest) -> None:
        self.nest, self.program, self.loops = nest, nest.program, nest.loops
        self.fields, self.entry = nest.fields, nest.direction
        outputs = dict(nest.program.outputs)
        inputs = {let.op.name: let.name for let in nest.program.body if isinstance(let.op, Input)}
        self.saved = [outputs.get(name) or inputs[name] for name in nest.kept]
        self.f = KernelContext(nest)
        for field in self.fields:
            self.f.name(field.name)
        self.groups = groups_of_cells(nest)
        self.narrow = Narrow(self.f, self.groups, read_elsewhere(nest))
        stored = [let.name for let in self.program.body if let.name in self.narrow.stored]
        self.setup = Setup(self.f, self.fields, stored, self.saved)

    # ---- definitions

    def definitions(self) -> list[Definition]:
        """All of the kernel; its names are in a section of their own."""
        functions: list[Definition] = [self.setup.prepare(), self._begin()]
        number = 0
        stages = []
        if before := self._settle(0):
            functions.append(before)
            stages.append("{NULL, settle_0, 0, 0}")
        for i, sweep in enumerate(self.nest.sweeps, 1):
            printer = SweepPrinter(self.f, self.narrow, sweep)
            functions.append(printer.function(f"sweep_{i}", self._sweep_doc(i)))
            settle = self._settle(i)
            functions += [settle] if settle else []
            named = f"settle_{i}" if settle else "NULL"
            stages.append(f"{{sweep_{i}, {named}, {number}, {len(sweep.measures)}}}")
            number += len(sweep.measures)
        functions.append(self._finish())
        tables: list[Definition] = []
        if self.nest.reductions:
            rows = [
                f"{{{self._bits(r.cells)}, {kind(r.row)}, {int(r.terminal)}}}"
                for r in self.nest.reductions
            ]
            tables.append(Table("reduction", "reductions[]", tuple(rows)))
        tables.append(Table("stage", "stages[]", tuple(stages)))
        reductions = "reductions" if self.nest.reductions else "NULL"
        plan = (
            "prepare, begin, finish", f"stages, {len(stages)}",
            f"{reductions}, {len(self.nest.reductions)}", self._bits(self.nest.islands),
        )  # fmt: skip
        tables.append(Table("kernel", "plan", plan))
        kept = [self._kept_size()] if self.saved and self.entry == "forward" else []
        return [
            *self._head(),
            self.setup.call(),
            self.setup.values(),
            *functions,
            *tables,
            *kept,
            self._launch(),
        ]

    def _head(self) -> list[Definition]:
        axes = [self.f.axis(group) for group in self.loops]
        groups = axes.index(self.f.axis((self.f.cell,))) if self.f.cell else -1
        rows = axes.index(self.f.axis((self.nest.grouped,))) if self.nest.grouped else -1
        return [
            cir.Define("AXES", str(len(axes))),
            cir.Define("DIMS", str(len(self.program.inputs[0].dims))),
            cir.Define("GROUPS", f"({groups})"),
            cir.Define("ROWS", f"({rows})"),
            cir.Include("metanorm.h"),
            cir.Enum(tuple(axes)),
        ]

    def _bits(self, axes: Sequence[str]) -> str:
        """A mask with a bit for each loop over some of these axes."""
        bits = [f"1u << {self.f.axis(g)}" for g in self.loops if set(g) <= set(axes)]
        return " | ".join(bits) or "0"

    # ---- narrow values

    def _begin(self) -> Function:
        body = self.narrow.statements(self.groups[0])
        doc = "What is known before the data is looked at."
        head = [VALUES] if body else [Do(Name("(void)values_"))]
        return Function(doc, "void", "begin", (("void *", "values_"),), (*head, *body))

    def _settle(self, number: int) -> Function | None:
        body = self.narrow.statements(self.groups[1 + number])
        if not body:
            return None
        doc = f"What follows from sweep {number} for the islands of the range."
        if number == 0:
            doc = "What is known of the islands of the range before the data is looked at."
        return self._narrow_function(f"settle_{number}", doc, body)

    def _narrow_function(self, name: str, doc: str, body: Sequence[Stmt]) -> Function:
        parameters = (("void *", "values_"), ("const range *", "r"), ("const accumulator *", "a"))
        unused: list[Stmt] = [Do(Name("(void)r, (void)a, (void)v"))]
        return Function(doc, "void", name, parameters, (VALUES, *unused, *body))

    def _finish(self) -> Function:
        body = self.narrow.statements(self.groups[-1])
        lets = self.narrow.lets
        end = self.nest.block("end")
        for update in end.updates:
            size = self.f.volume(self.nest.array[update.array].axes)
            buffer = Name(f"&v->call->{self.f.name(update.array)}")
            value = Name(f"v->{self.f.name(update.value)}")
            if update.momentum is not None:
                momentum = Name(f"v->call->{update.momentum}")
                body.append(Do(Apply("track", (buffer, value, size, momentum))))
            else:
                body.append(Do(Apply("give", (buffer, value, size))))
        for array, ref in end.writes:
            if self.nest.array[array].role == "returned":
                size = self.f.volume(lets[ref].type.axes)
                place = Name(f"&v->call->{self.f.name(array)}")
                body.append(Do(Apply("give", (place, Name(f"v->{self.f.name(ref)}"), size))))
        doc = "What is left to do when all data has been looked at."
        return self._narrow_function("finish", doc, body)

    def _sweep_doc(self, number: int) -> str:
        sweep = self.nest.sweeps[number - 1]
        done = []
        for r in (self.nest.reductions[measured] for measured in sweep.measures):
            cells = ", ".join(r.cells) or "all"
            value = r.value if not r.value.startswith("%") else self.f.name(r.value)
            done.append(f"{r.row.title} of {value} per {cells}")
        done += [f"writes {array.removeprefix('to.')}" for array, _ in sweep.writes]
        return f"Sweep {number}: {'; '.join(done)}."

    def _kept_size(self) -> Function:
        body: tuple[Stmt, ...] = (
            Declare("values", "v"),
            Declare("arena", "memory", Name("{NULL, 0}")),
            Do(Apply("prepare", (Name("&v"), Name("call"), Name("&memory")))),
            Return(Name("(int64_t)v.kept")),
        )
        parameters = (("const call_fields *", "call"),)
        doc = "How many bytes are kept for the backward call."
        return Function(doc, "int64_t", "kept", parameters, body, exported=True)

    def _launch(self) -> Function:
        body: list[Stmt] = [Declare("values", "v")]
        arguments = (
            Name("&plan"), Name("&v"), Name("&v.shape"), Name("call"), Name("call->threads"),
        )  # fmt: skip
        body.append(Return(Apply("launch", arguments)))
        return Function(
            "", "int", self.entry, (("const call_fields *", "call"),), tuple(body), exported=True
        )
