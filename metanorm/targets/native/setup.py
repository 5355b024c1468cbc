"""What a call brings and what the functions of a kernel share, and how one becomes the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.ir.nodes import Buffer, Input, Param, Pool, Ref
from metanorm.ir.scalar import Apply as ApplyScalar
from metanorm.ir.scalar import Scalar, SizeOf
from metanorm.nest.arguments import Field, dimensions
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Do,
    Expr,
    Function,
    Infix,
    Name,
    Number,
    Prefix,
    Set,
    Stmt,
    Struct,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.scan import room_of

VALUES = Declare("values *", "v", Name("values_"))


class Setup:
    """Prints the set-up of one kernel. `stored` are its narrow values that have arrays, `saved`
    those that the forward kernel leaves for the backward one."""

    def __init__(
        self,
        context: KernelContext,
        fields: Sequence[Field],
        stored: Sequence[Ref],
        saved: Sequence[Ref],
    ) -> None:
        self.f = context
        self.nest, self.loops, self.program = context.nest, context.loops, context.program
        self.fields, self.stored, self.saved = fields, stored, saved

    def call(self) -> Struct:
        """What a call brings."""
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

    def values(self) -> Struct:
        """What the functions of a kernel share."""
        wide = [self.f.name(f.name) for f in self.fields if f.type == "strided"]
        numbers = [self.f.name(f.name) for f in self.fields if f.kind == "number"]
        sizes = [self.f.size_name(a) for a in self._axes()]
        given = [r for r, (_, kind) in self._given().items() if kind != "index"]
        matrices = [self.f.name(r) for r in given if r in self.f.matrices]
        arrays = [f"*{self.f.name(r)}" for r in given if r not in self.f.matrices]
        stored = [f"*{self.f.name(ref)}" for ref in self.stored]
        fields = [
            ("shape", ("shape",)), ("const call_fields", ("*call",)), ("int64_t", tuple(sizes)),
            ("real", tuple(numbers)), ("tensor", tuple(wide)), ("matrix", tuple(matrices)),
            ("links", tuple(self.f.name(r) for r in self.f.links)),
            ("const real", tuple(arrays)),
            ("real", tuple(stored)), ("scratch", ("scratch",) if self.f.scans else ()),
            ("size_t", ("kept",) if self.saved else ()),
        ]  # fmt: skip
        return Struct("Everything that the functions of this kernel share.", "values",
                      tuple((t, names) for t, names in fields if names))  # fmt: skip

    def _axes(self) -> list[str]:
        """All leaf axes of the program."""
        return [a.name for a in self.program.axes if not a.parts]

    # ---- setting up

    def prepare(self) -> Function:
        """The function that fills them in."""
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
        body.append(Do(Apply("set_strides", (Name("v"), Name("call")))))
        body += self._groups()
        body += self._links()
        body += self._arrays()
        parameters = (("void *", "values_"), ("const void *", "call_"), ("arena *", "memory"))
        doc = "Sizes, tensors and memory: called once to count the memory, and once with it."
        return Function(doc, "void", "prepare", parameters, tuple(body))

    def _length(self, axis: str, known: set[str], wholes: Mapping[str, object]) -> Expr:
        if axis == self.f.cell:
            return Name(f"call->{self.f.name(f'{self.nest.groups}.count')}")
        if axis in known:
            return Name(f"call->size_{self.f.name(axis)}")
        size = self.f.space[axis].size
        if size is None:
            raise AssertionError(axis)
        expr = self.f.scalar(size, whole=True)
        return _with_sizes(expr, size, self.f)

    def strides(self) -> Function:
        """The function that says how long each loop is, and how far it steps through each
        tensor."""
        body: list[Stmt] = []
        for group in self.loops:
            place = Name(f"v->shape.size[{self.f.axis(group)}]")
            body.append(Set(place, "=", self.f.volume(group)))
        body += [self._tensor(field) for field in self.fields if field.type == "strided"]
        parameters = (("values *", "v"), ("const call_fields *", "call"))
        doc = "The lengths of loops, and where tensors lie along them."
        return Function(doc, "void", "set_strides", parameters, tuple(body))

    def _groups(self) -> list[Stmt]:
        body: list[Stmt] = []
        if self.nest.grouped is not None:
            index = self.f.name(self.nest.groups or "")
            labels = Prefix("(const int64_t *)", Name(f"call->{index}.data"))
            found = Apply(
                "grouped",
                (
                    labels,
                    self.f.size(self.nest.grouped),
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
        for group in self.loops:
            stride: Expr = Number(0)
            for number, dim in enumerate(dims):
                leaves = self.f.space.leaves(dim)
                if group[-1] in leaves:
                    inner = leaves[leaves.index(group[-1]) + 1 :]
                    stride = cir.product(Name(f"{given}.stride[{number}]"), self.f.volume(inner))
            strides.append(stride)
        made = cir.Filled("tensor", (Name(f"{given}.data"), Name(f"{given}.type"), *strides))
        return Set(Name(f"v->{name}"), "=", made)

    def _links(self) -> list[Stmt]:
        """Edges by the nodes that they lead to, and away from, as far as some pool needs them."""
        body: list[Stmt] = []
        broken = Name("v->shape.broken")
        if self.f.links:
            body.append(Set(broken, "=", Number(0)))
        for ref, link in self.f.links.items():
            name = self.f.name(link.edges)
            sides = (self._pools_along(link.source), self._pools_along(link.target))
            given = (
                Name(f"&call->{name}"), self.f.size(link.target),
                Number(int(link.loop)), *(Number(int(side)) for side in sides), Name("memory"),
            )  # fmt: skip
            found = Name(f"v->{self.f.name(ref)}")
            body.append(Set(found, "=", Apply("links_of", given)))
            body.append(Set(broken, "|=", Name(f"{found.text}.broken")))
        return body

    def _arrays(self) -> list[Stmt]:
        body: list[Stmt] = []
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
            size = self.f.volume(self.f.types[ref].axes)
            given = Name(f"&call->{self.f.name(field)}")
            changed = any(u.array == field for u in self.nest.block("end").updates)
            staged = Apply(
                "copied" if changed else "staged",
                (given, size, Number(self.nest.array[field].absent), Name("memory")),
            )
            body.append(Set(Name(f"v->{self.f.name(ref)}"), "=", staged))
        body += self._taken([ref for ref in self.stored if ref not in self.saved], "memory")
        if self.f.scans:
            room = room_of(self.f, self.f.scans)
            scratch = Apply("scratch_of", (room, Name("THREADS"), Name("memory")))
            body.append(Set(Name("v->scratch"), "=", scratch))
        if self.saved:
            body.append(Declare("arena", "kept", Name("{call->saved, 0}")))
            body += self._taken(self.saved, "&kept")
            body.append(Set(Name("v->kept"), "=", Name("kept.used")))
        return body

    def _pools_along(self, axis: str) -> bool:
        """Whether narrow values are pooled along an axis, so that columns may be read."""
        pools = (let.op for let in self.program.body if isinstance(let.op, Pool))
        return any(axis == pooled for op in pools for pooled, _ in op.over)

    def _taken(self, refs: Sequence[Ref], memory: str) -> list[Stmt]:
        """Memory for arrays, those of one length together."""
        by_size: dict[Expr, list[Ref]] = {}
        for ref in refs:
            by_size.setdefault(self.f.volume(self.f.types[ref].axes), []).append(ref)
        body: list[Stmt] = []
        for size, alike in by_size.items():
            places = tuple(Name(f"&v->{self.f.name(ref)}") for ref in alike)
            count, listed = Number(len(alike)), cir.Filled("real **[]", places)
            body.append(Do(Apply("take_all", (Name(memory), size, count, listed))))
        return body


def _with_sizes(expr: Expr, size: Scalar, context: KernelContext) -> Expr:
    """The length of a part of an axis, which is known as a whole: `size(C)` in `size(C) / g`.

    A part that is split itself is as long as its own formula says.
    """
    if isinstance(size, SizeOf):
        if size.axis in dimensions(context.program):
            return Name(f"call->size_{context.name(size.axis)}")
        whole = context.space[size.axis]
        if not whole.parts or whole.size is None:
            return expr
        return _with_sizes(context.scalar(whole.size, whole=True), whole.size, context)
    if isinstance(expr, Infix) and isinstance(size, ApplyScalar):
        left, right = size.arguments
        return Infix(
            expr.operator,
            _with_sizes(expr.left, left, context),
            _with_sizes(expr.right, right, context),
        )
    return expr
