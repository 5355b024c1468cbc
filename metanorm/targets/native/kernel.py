"""A plan as the functions of one kernel: set up, sweeps, narrow values, and the entry."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from metanorm.ir.momenta import momenta
from metanorm.ir.nodes import Buffer, Input, Let, Param, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.ir.scalar import Apply as ApplyScalar
from metanorm.ir.scalar import Scalar, SizeOf
from metanorm.plan.sweeps import NotPlannable, Plan
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Definition,
    Do,
    Expr,
    Function,
    Infix,
    Name,
    Number,
    Prefix,
    Return,
    Set,
    Stmt,
    Struct,
    Table,
)
from metanorm.targets.native.frame import Frame, Loops
from metanorm.targets.native.interface import Field, dimensions
from metanorm.targets.native.narrow import Narrow, Section
from metanorm.targets.native.sweep import SweepPrinter

VALUES = Declare("values *", "v", Name("values_"))


class KernelPrinter:
    """Prints the kernel called `name` of a plan, for one order of loops."""

    def __init__(
        self, plan: Plan, loops: Loops, fields: Sequence[Field], saved: Sequence[str], name: str
    ) -> None:
        self.plan, self.loops, self.fields, self.entry = plan, loops, fields, name
        outputs = dict(plan.program.outputs)
        inputs = {let.op.name: let.name for let in plan.program.body if isinstance(let.op, Input)}
        self.saved = [outputs.get(name) or inputs[name] for name in saved]
        self.f = Frame(plan, loops)
        self.program = plan.program
        for field in fields:
            self.f.name(field.name)
        self.numbered = [r for sweep in plan.sweeps for r in sweep.reductions]
        self.sections = self._sections()
        self.narrow = Narrow(self.f, [s for s in self.sections if s], self._kept())

    def _sections(self) -> list[Section]:
        """At the beginning, before the sweeps, after each of them, and at the end.

        What belongs to islands is computed with them, by the worker that has them in its cache.
        """
        begin, before = self._opening()
        after, finish = self._closing()
        sections = [Section(begin), Section(before, ranged=True)]
        number = 0
        late = []
        for sweep in self.plan.sweeps:
            mine = [(number + i, r) for i, r in enumerate(sweep.reductions)]
            number += len(mine)
            feeding = tuple((n, r) for n, r in mine if not r.terminal)
            late += [(n, r) for n, r in mine if r.terminal]
            more = after if sweep is self.plan.sweeps[-1] else ()
            sections.append(Section((*sweep.narrow, *more), feeding, ranged=True))
        sections.append(Section(finish, tuple(late)))
        return sections

    def _opening(self) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
        """Of the values before all sweeps, those of all islands together, and the rest."""
        lets = self.plan.prologue
        shared = {let.name for let in lets if not self._of_islands(let)}
        for let in reversed(lets):
            if let.name in shared:
                shared.update(operands(let.op))
        return _parted(lets, shared)

    def _closing(self) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
        """Of the values after all sweeps, those of islands, and those that wait for all."""
        lets = self.plan.epilogue
        waiting = {ref for r in self.numbered if r.terminal for _, ref in r.results}
        for let in lets:
            if not self._of_islands(let) or waiting.intersection(operands(let.op)):
                waiting.add(let.name)
        last, own = _parted(lets, waiting)
        return own, last

    def _of_islands(self, let: Let) -> bool:
        islands = set(self.plan.islands)
        return bool(islands) and islands <= set(let.type.axes)

    def _kept(self) -> set[Ref]:
        """Narrow values that sweeps, outputs or updates read."""
        wide = {let.name for sweep in self.plan.sweeps for let in sweep.maps}
        kept = {ref for _, ref in self.program.outputs} | {u.value for u in self.program.updates}
        for sweep in self.plan.sweeps:
            for let in sweep.maps:
                kept |= {r for r in operands(let.op) if r not in wide}
            for r in sweep.reductions:
                kept |= {x for x in (r.value, r.where, r.weight) if x is not None}
        return kept

    # ---- definitions

    def definitions(self) -> list[Definition]:
        """All of the kernel; its names are in a section of their own."""
        call = self._call()
        functions: list[Definition] = [self._prepare(), self._begin()]
        number = 0
        stages = []
        if before := self._settle(0):
            functions.append(before)
            stages.append("{NULL, settle_0, 0, 0}")
        for i, sweep in enumerate(self.plan.sweeps, 1):
            printer = SweepPrinter(self.f, self.narrow, sweep, number)
            functions.append(printer.function(f"sweep_{i}", self._sweep_doc(i)))
            settle = self._settle(i)
            functions += [settle] if settle else []
            named = f"settle_{i}" if settle else "NULL"
            stages.append(f"{{sweep_{i}, {named}, {number}, {len(sweep.reductions)}}}")
            number += len(sweep.reductions)
        functions.append(self._finish())
        tables: list[Definition] = []
        if self.numbered:
            rows = [
                f"{{{self._bits(r.cells)}, {int(r.kind != 'sum')}, {int(r.terminal)}}}"
                for r in self.numbered
            ]
            tables.append(Table("reduction", "reductions[]", tuple(rows)))
        tables.append(Table("stage", "stages[]", tuple(stages)))
        reductions = "reductions" if self.numbered else "NULL"
        plan = (
            "prepare, begin, finish", f"stages, {len(stages)}",
            f"{reductions}, {len(self.numbered)}", self._bits(self.plan.islands),
        )  # fmt: skip
        tables.append(Table("kernel", "plan", plan))
        kept = [self._kept_size()] if self.saved and self.entry == "forward" else []
        return [*self._head(), call, self._values(), *functions, *tables, *kept, self._launch()]

    def _head(self) -> list[Definition]:
        axes = [self.f.axis(group) for group in self.loops.axes]
        groups = axes.index(self.f.axis((self.f.cell,))) if self.f.cell else -1
        rows = axes.index(self.f.axis((self.plan.grouped,))) if self.plan.grouped else -1
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
        bits = [f"1u << {self.f.axis(g)}" for g in self.loops.axes if set(g) <= set(axes)]
        return " | ".join(bits) or "0"

    def _call(self) -> Struct:
        fields: list[tuple[str, tuple[str, ...]]] = [("int64_t", ("threads",))]
        for field in self.fields:
            own = self._field(field)
            if fields[-1][0] == field.type:
                fields[-1] = (field.type, (*fields[-1][1], own))
            else:
                fields.append((field.type, (own,)))
        return Struct(
            "What a call brings, as `metanorm.runtime.native` packs it.",
            "call_fields",
            tuple(fields),
        )

    def _field(self, field: Field) -> str:
        name = self.f.name(field.name)
        return f"size_{name}" if field.kind == "size" else name

    def _given(self) -> dict[Ref, tuple[str, str]]:
        """Narrow inputs, parameters and buffers that are read: the field of each, and its sort."""
        found: dict[Ref, tuple[str, str]] = {}
        kinds = {f.name: f.kind for f in self.fields}
        for let in self.program.body:
            if isinstance(let.op, (Input, Param, Buffer)):
                kind = kinds.get(let.op.name, "saved")
                if kind in ("narrow", "index", "saved"):
                    found[let.name] = (let.op.name, kind)
        return found

    def _values(self) -> Struct:
        wide = [self.f.name(f.name) for f in self.fields if f.type == "strided"]
        numbers = [self.f.name(f.name) for f in self.fields if f.kind == "number"]
        sizes = [self.f.size_name(a) for a in self._axes()]
        given = [r for r, (_, kind) in self._given().items() if kind != "index"]
        matrices = [self.f.name(r) for r in given if r in self.f.matrices]
        arrays = [f"*{self.f.name(r)}" for r in given if r not in self.f.matrices]
        stored = [f"*{self.f.name(ref)}" for ref in self._stored()]
        fields = [
            ("shape", ("shape",)), ("const call_fields", ("*call",)), ("int64_t", tuple(sizes)),
            ("real", tuple(numbers)), ("tensor", tuple(wide)), ("matrix", tuple(matrices)),
            ("const real", tuple(arrays)),
            ("real", tuple(stored)), ("size_t", ("kept",) if self.saved else ()),
        ]  # fmt: skip
        return Struct("Everything that the functions of this kernel share.", "values",
                      tuple((t, names) for t, names in fields if names))  # fmt: skip

    def _stored(self) -> list[Ref]:
        return [let.name for let in self.program.body if let.name in self.narrow.stored]

    def _axes(self) -> list[str]:
        """All leaf axes of the program."""
        return [a.name for a in self.program.axes if not a.parts]

    # ---- setting up

    def _prepare(self) -> Function:
        body: list[Stmt] = [VALUES, Declare("const call_fields *", "call", Name("call_"))]
        body.append(Set(Name("v->call"), "=", Name("call")))
        for field in self.fields:
            if field.kind == "number":
                name = self.f.name(field.name)
                body.append(Set(Name(f"v->{name}"), "=", Prefix("(real)", Name(f"call->{name}"))))
        known = set(dimensions(self.program))
        wholes = {
            leaf: a for a in self.program.axes for leaf in self.f.space.leaves(a.name) if a.parts
        }
        for axis in self._axes():
            body.append(
                Set(Name(f"v->{self.f.size_name(axis)}"), "=", self._length(axis, known, wholes))
            )
        body += self._shape()
        for field in self.fields:
            if field.type == "strided":
                body.append(self._tensor(field))
        body += self._arrays()
        parameters = (("void *", "values_"), ("const void *", "call_"), ("arena *", "memory"))
        doc = "Sizes, tensors and memory: called once to count the memory, and once with it."
        return Function(doc, "void", "prepare", parameters, tuple(body))

    def _length(self, axis: str, known: set[str], wholes: Mapping[str, object]) -> Expr:
        if axis == self.f.cell:
            return Name(f"call->{self.f.name(f'{self.plan.groups}.count')}")
        if axis in known:
            return Name(f"call->size_{self.f.name(axis)}")
        size = self.f.space[axis].size
        if size is None:
            raise NotPlannable(f"the length of {axis} is not known")
        expr = self.f.scalar(size, whole=True)
        return _with_sizes(expr, size, self.f)

    def _shape(self) -> list[Stmt]:
        body: list[Stmt] = []
        for group in self.loops.axes:
            place = Name(f"v->shape.size[{self.f.axis(group)}]")
            body.append(Set(place, "=", self.f.volume(group)))
        if self.plan.grouped is not None:
            index = self.f.name(self.plan.groups or "")
            labels = Prefix("(const int64_t *)", Name(f"call->{index}.data"))
            found = Apply(
                "grouped",
                (
                    labels,
                    self.f.size(self.plan.grouped),
                    self.f.size(self.f.cell or ""),
                    Name("memory"),
                ),
            )
            body.append(Set(Name("v->shape.groups"), "=", found))
        return body

    def _tensor(self, field: Field) -> Stmt:
        """Strides of dimensions to strides of loops."""
        name = self.f.name(field.name)
        given = f"call->{name}"
        dims = self.program.inputs[0].dims
        strides: list[Expr] = []
        for group in self.loops.axes:
            stride: Expr = Number(0)
            for number, dim in enumerate(dims):
                leaves = self.f.space.leaves(dim)
                if group[-1] in leaves:
                    inner = leaves[leaves.index(group[-1]) + 1 :]
                    stride = cir.product(Name(f"{given}.stride[{number}]"), self.f.volume(inner))
            strides.append(stride)
        made = cir.Filled("tensor", (Name(f"{given}.data"), Name(f"{given}.type"), *strides))
        return Set(Name(f"v->{name}"), "=", made)

    def _arrays(self) -> list[Stmt]:
        body: list[Stmt] = []
        params = {p.name: p for p in self.program.params}
        inputs = {i.name: i for i in self.program.inputs}
        for ref, (field, kind) in self._given().items():
            if kind in ("index", "saved"):
                continue
            if ref in self.f.matrices:
                row, _ = self.f.matrices[ref]
                both_ways = Number(int(self._pools_along(row)))
                given = Name(f"&call->{self.f.name(field)}")
                taken = (given, self.f.size(row), both_ways, Name("memory"))
                body.append(Set(Name(f"v->{self.f.name(ref)}"), "=", Apply("matrix_of", taken)))
                continue
            absent = 0.0
            if field in params:
                absent = params[field].absent or 0.0
            elif field in inputs and isinstance(inputs[field].default, float):
                absent = inputs[field].default  # type: ignore[assignment]
            size = self.f.volume(self.f.types[ref].axes)
            given = Name(f"&call->{self.f.name(field)}")
            changed = any(u.buffer == field for u in self.program.updates)
            staged = Apply(
                "copied" if changed else "staged", (given, size, Number(absent), Name("memory"))
            )
            body.append(Set(Name(f"v->{self.f.name(ref)}"), "=", staged))
        body += [self._taken(ref, "memory") for ref in self._stored() if ref not in self.saved]
        if self.saved:
            body.append(Declare("arena", "kept", Name("{call->saved, 0}")))
            body += [self._taken(ref, "&kept") for ref in self.saved]
            body.append(Set(Name("v->kept"), "=", Name("kept.used")))
        return body

    def _pools_along(self, axis: str) -> bool:
        """Whether narrow values are pooled along an axis, so that columns may be read."""
        pools = (let.op for let in self.program.body if isinstance(let.op, Pool))
        return any(axis == pooled for op in pools for pooled, _ in op.over)

    def _taken(self, ref: Ref, memory: str) -> Stmt:
        size = self.f.volume(self.f.types[ref].axes)
        taken = Apply("take", (Name(memory), size, Name("sizeof(real)")))
        return Set(Name(f"v->{self.f.name(ref)}"), "=", taken)

    # ---- narrow values

    def _begin(self) -> Function:
        body = self.narrow.statements(self.sections[0])
        doc = "What is known before the data is looked at."
        head = [VALUES] if body else [Do(Name("(void)values_"))]
        return Function(doc, "void", "begin", (("void *", "values_"),), (*head, *body))

    def _settle(self, number: int) -> Function | None:
        body = self.narrow.statements(self.sections[1 + number])
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
        body = self.narrow.statements(self.sections[-1])
        lets = self.narrow.lets
        for update in self.program.updates:
            declared = next(b for b in self.program.buffers if b.name == update.buffer)
            axes = tuple(leaf for dim in declared.dims for leaf in self.f.space.leaves(dim))
            if self.f.order(update.value) != axes:
                raise NotPlannable("a buffer with other axes than its value")
            buffer, size = Name(f"&v->call->{self.f.name(update.buffer)}"), self.f.volume(axes)
            value = Name(f"v->{self.f.name(update.value)}")
            if update.averages:
                momentum = Name(f"v->call->{momenta(self.program)[update.momentum]}")
                body.append(Do(Apply("track", (buffer, value, size, momentum))))
            else:
                body.append(Do(Apply("give", (buffer, value, size))))
        for field in self.fields:
            if field.kind == "narrow" and field.name.startswith("to."):
                ref = dict(self.program.outputs)[field.name[3:]]
                size = self.f.volume(lets[ref].type.axes)
                place = Name(f"&v->call->{self.f.name(field.name)}")
                body.append(Do(Apply("give", (place, Name(f"v->{self.f.name(ref)}"), size))))
        doc = "What is left to do when all data has been looked at."
        return self._narrow_function("finish", doc, body)

    def _sweep_doc(self, number: int) -> str:
        sweep = self.plan.sweeps[number - 1]
        done = []
        for r in sweep.reductions:
            cells = ", ".join(r.cells) or "all"
            kind = {"var": "moments", "mean": "mean", "sum": "sum"}[r.kind]
            value = r.value if not r.value.startswith("%") else self.f.name(r.value)
            done.append(f"{kind} of {value} per {cells}")
        done += [f"writes {name}" for name, _ in sweep.outputs]
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


def _parted(lets: Sequence[Let], named: Container[Ref]) -> tuple[tuple[Let, ...], tuple[Let, ...]]:
    """Those that are named, and those that are not, each in order."""
    return tuple(x for x in lets if x.name in named), tuple(x for x in lets if x.name not in named)


def _with_sizes(expr: Expr, size: Scalar, frame: Frame) -> Expr:
    """The length of a part of an axis, which is known as a whole: `size(C)` in `size(C) / g`."""
    if isinstance(size, SizeOf):
        known = size.axis in dimensions(frame.program)
        return Name(f"call->size_{frame.name(size.axis)}") if known else expr
    if isinstance(expr, Infix) and isinstance(size, ApplyScalar):
        left, right = size.arguments
        return Infix(
            expr.operator,
            _with_sizes(expr.left, left, frame),
            _with_sizes(expr.right, right, frame),
        )
    return expr
