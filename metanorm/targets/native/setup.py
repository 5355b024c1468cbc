"""Print the structures of a kernel, and the function that fills its values from a call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from metanorm.ir.nodes import Buffer, Input, Param, Pool, Ref
from metanorm.ir.scalar import Apply as ApplyScalar
from metanorm.ir.scalar import Scalar, SizeOf
from metanorm.nest.arguments import Field, FieldKind, dimensions
from metanorm.nest.layouts import AxisGroup
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Declare,
    Element,
    Expr,
    ExprStmt,
    Function,
    Infix,
    Name,
    Number,
    Prefix,
    Stmt,
    Struct,
    address,
    arrow,
    dot,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.members import GROUPS, shared
from metanorm.targets.native.scan import scratch_size
from metanorm.targets.native.scan_tile import tile_memory

C_TYPES: Mapping[FieldKind, str] = {
    "size": "int64_t", "groups": "int64_t", "number": "double", "momentum": "double",
    "wide": "strided", "result": "strided", "narrow": "narrow", "index": "narrow",
    "edges": "edge_ends", "saved": "void *",
}  # fmt: skip
assert C_TYPES.keys() == {*get_args(FieldKind)}, C_TYPES.keys() ^ {*get_args(FieldKind)}
CALL = Name("call")  # in functions that fill the shared structure
VALUES = Declare("values *", "v", Name("values_"))


class Setup:
    """Prints the set-up of one kernel.

    `stored` are the narrow values that have arrays, `saved` the values that the forward kernel
    saves for the backward one.
    """

    def __init__(
        self,
        context: KernelContext,
        fields: Sequence[Field],
        stored: Sequence[Ref],
        saved: Sequence[Ref],
    ) -> None:
        self.ctx = context
        self.nest, self.loops, self.program = context.nest, context.loops, context.program
        self.fields, self.stored, self.saved = fields, stored, saved

    def call(self) -> Struct:
        """The structure with the arguments of a call."""
        fields: list[tuple[str, tuple[str, ...]]] = [("int64_t", ("threads",))]
        for field in self.fields:
            member = self._field(field)
            c_type = C_TYPES[field.kind]
            if fields[-1][0] == c_type:
                fields[-1] = (c_type, (*fields[-1][1], member))
            else:
                fields.append((c_type, (member,)))
        return Struct(
            "What a call brings, as `metanorm.runtime.native` packs it.",
            "call_fields",
            tuple(fields),
            is_ordered=True,
        )

    def _field(self, field: Field) -> str:
        if field.kind == "saved":  # no tensor of the spec, one of which may have that name
            return "saved"
        name = self.ctx.field(field.name)
        return f"size_{name}" if field.kind == "size" else name

    def _narrow_tensors(self) -> dict[Ref, tuple[str, str]]:
        """The field of each narrow input, parameter and buffer that is read, and its kind."""
        fields_by_ref: dict[Ref, tuple[str, str]] = {}
        kinds = {f.name: f.kind for f in self.fields if f.kind != "saved"}
        for let in self.program.body:
            if isinstance(let.op, (Input, Param, Buffer)):
                kind = kinds.get(let.op.name, "saved")
                if kind in ("narrow", "index", "saved"):
                    fields_by_ref[let.name] = (let.op.name, kind)
        return fields_by_ref

    def values(self) -> Struct:
        """The structure that the functions of a kernel share."""
        wide = [self.ctx.name(f.name) for f in self.fields if C_TYPES[f.kind] == "strided"]
        numbers = [self.ctx.name(f.name) for f in self.fields if f.kind == "number"]
        sizes = [self.ctx.size_name(a) for a in self._axes()]
        narrow = {ref: kind for ref, (_, kind) in self._narrow_tensors().items()}
        tensor_refs = [r for r, kind in narrow.items() if kind == "narrow"]
        matrices = [self.ctx.name(r) for r in tensor_refs if r in self.ctx.matrices]
        arrays = [f"*{self.ctx.name(r)}" for r in tensor_refs if r not in self.ctx.matrices]
        kept = [r for r, kind in narrow.items() if kind == "saved"]
        stored = [f"*{self.ctx.name(ref)}" for ref in (*kept, *self.stored)]
        fields = [
            ("shape", ("shape",)), ("const call_fields", ("*call",)), ("int64_t", tuple(sizes)),
            ("real", tuple(numbers)), ("tensor", tuple(wide)), ("matrix", tuple(matrices)),
            ("links", tuple(self.ctx.name(r) for r in self.ctx.links)),
            ("const real", tuple(arrays)),
            ("real", tuple(stored)), ("scratch", ("scratch",) if self.ctx.scans else ()),
            ("tiles", ("tiles",) if self.ctx.scans_elements else ()),
            ("size_t", ("kept",) if self.saved else ()),
        ]  # fmt: skip
        return Struct("Everything that the functions of this kernel share.", "values",
                      tuple((t, names) for t, names in fields if names))  # fmt: skip

    def _axes(self) -> list[str]:
        """All leaf axes of the program."""
        return [a.name for a in self.program.axes if not a.parts]

    # ---- setting up

    def prepare(self) -> Function:
        """The function that fills the shared structure. It also measures the memory of a call."""
        body: list[Stmt] = [VALUES, Declare("const call_fields *", "call", Name("call_"))]
        body.append(Assign(shared("call"), "=", CALL))
        for field in self.fields:
            if field.kind == "number":
                name = self.ctx.name(field.name)
                body.append(Assign(shared(name), "=", Prefix("(real)", arrow(CALL, name))))
        sized_dims = set(dimensions(self.program))
        split_axes = {
            leaf: a for a in self.program.axes for leaf in self.ctx.space.leaves(a.name) if a.parts
        }
        for axis in self._axes():
            body.append(
                Assign(
                    shared(self.ctx.size_name(axis)),
                    "=",
                    self._length(axis, sized_dims, split_axes),
                )
            )
        body += self._tensors()
        body += self._groups()
        body += self._links()
        body += self._arrays()
        parameters = (("void *", "values_"), ("const void *", "call_"), ("arena *", "memory"))
        doc = "Sizes, tensors and memory: called once to count the memory, and once with it."
        return Function(doc, "void", "prepare", parameters, tuple(body))

    def _length(self, axis: str, sized_dims: set[str], split_axes: Mapping[str, object]) -> Expr:
        if axis == self.ctx.group_axis:
            return arrow(CALL, self.ctx.name(f"{self.nest.group_index}.count"))
        if axis in sized_dims:
            return arrow(CALL, f"size_{self.ctx.name(axis)}")
        size = self.ctx.space[axis].size
        if size is None:
            raise AssertionError(axis)
        expr = self.ctx.scalar(size, as_int=True)
        return _with_sizes(expr, size, self.ctx)

    def lengths(self) -> cir.Macro:
        """The lengths of the loops."""
        return cir.Macro("LENGTHS", (), tuple(self.ctx.volume(group) for group in self.loops))

    def strides(self) -> cir.Macro:
        """The strides of a tensor along the loops, from its strides along its dimensions."""
        return cir.Macro("STRIDES", ("t",), tuple(map(self._stride, self.loops)))

    def _stride(self, group: AxisGroup) -> Expr:
        for number, dim in enumerate(self.program.inputs[0].dims):
            leaves = self.ctx.space.leaves(dim)
            if group[-1] in leaves:
                inner = leaves[leaves.index(group[-1]) + 1 :]
                of_dim = Element(dot(Name("t"), "stride"), Number(number))
                return cir.product(of_dim, self.ctx.volume(inner))
        return Number(0)

    def _tensors(self) -> list[Stmt]:
        """Where tensors as large as the data lie along the loops, and how long these are."""
        lengths = Apply("AT", (Name("LENGTHS"),))
        sizes = Apply("set_lengths", (address(shared("shape")), lengths))
        body: list[Stmt] = [ExprStmt(sizes)]
        for field in self.fields:
            if C_TYPES[field.kind] == "strided":
                name = self.ctx.name(field.name)
                body.append(Assign(shared(name), "=", Apply("TENSOR", (arrow(CALL, name),))))
        if self.ctx.scans_elements:
            body.append(Assign(dot(shared("tiles"), "size"), "=", tile_memory(self.ctx)))
        return body

    def _groups(self) -> list[Stmt]:
        body: list[Stmt] = []
        if self.nest.grouped_axis is not None:
            index = self.ctx.name(self.nest.group_index or "")
            labels = Prefix("(const int64_t *)", dot(arrow(CALL, index), "data"))
            groups_call = Apply(
                "grouped",
                (
                    labels,
                    self.ctx.size(self.nest.grouped_axis),
                    self.ctx.size(self.ctx.group_axis or ""),
                    Name("memory"),
                ),
            )
            body.append(Assign(GROUPS, "=", groups_call))
        return body

    def _links(self) -> list[Stmt]:
        """Sort edge lists by target and by source, as far as pools need that order."""
        body: list[Stmt] = []
        broken = dot(shared("shape"), "broken")
        if self.ctx.links:
            body.append(Assign(broken, "=", Number(0)))
        for ref, link in self.ctx.links.items():
            name = self.ctx.name(link.edges)
            sides = (self._pools_along(link.source), self._pools_along(link.target))
            arguments = (
                address(arrow(CALL, name)), self.ctx.size(link.target),
                Number(int(link.loop)), *(Number(int(side)) for side in sides), Name("memory"),
            )  # fmt: skip
            links = shared(self.ctx.name(ref))
            body.append(Assign(links, "=", Apply("links_of", arguments)))
            body.append(Assign(broken, "|=", dot(links, "broken")))
        return body

    def _arrays(self) -> list[Stmt]:
        body: list[Stmt] = []
        for ref, (field, kind) in self._narrow_tensors().items():
            if kind in ("index", "saved"):
                continue
            if ref in self.ctx.matrices:
                row, _ = self.ctx.matrices[ref]
                with_columns = Number(int(self._pools_along(row)))
                argument = address(arrow(CALL, self.ctx.field(field)))
                arguments = (argument, self.ctx.size(row), with_columns, Name("memory"))
                body.append(Assign(shared(self.ctx.name(ref)), "=", Apply("matrix_of", arguments)))
                continue
            size = self.ctx.volume(self.ctx.types[ref].axes)
            argument = address(arrow(CALL, self.ctx.field(field)))
            is_updated = any(u.array == field for u in self.nest.block("end").updates)
            array = Apply(
                "copied" if is_updated else "as_real",
                (argument, size, Number(self.nest.array[field].absent), Name("memory")),
            )
            body.append(Assign(shared(self.ctx.name(ref)), "=", array))
        memory = Name("memory")
        body += self._allocations([ref for ref in self.stored if ref not in self.saved], memory)
        if self.ctx.scans:
            room = scratch_size(self.ctx, self.ctx.scans)
            scratch = Apply("scratch_of", (room, Name("THREADS"), Name("memory")))
            body.append(Assign(shared("scratch"), "=", scratch))
        if self.ctx.scans_elements:
            tiles = (dot(shared("tiles"), "size"), Name("THREADS"), Name("memory"))
            body.append(Assign(shared("tiles"), "=", Apply("tiles_of", tiles)))
        if self.saved:
            body.append(
                Declare("arena", "kept", cir.CompoundLiteral("", (arrow(CALL, "saved"), Number(0))))
            )
            body += self._allocations(self.saved, address(Name("kept")))
            body.append(Assign(shared("kept"), "=", dot(Name("kept"), "used")))
        return body

    def _pools_along(self, axis: str) -> bool:
        """Whether a pool of narrow values goes along an axis."""
        pools = (let.op for let in self.program.body if isinstance(let.op, Pool))
        return any(axis == pooled for op in pools for pooled, _ in op.over)

    def _allocations(self, refs: Sequence[Ref], memory: Expr) -> list[Stmt]:
        """The allocations of arrays, one call for all arrays of a length."""
        by_size: dict[Expr, list[Ref]] = {}
        for ref in refs:
            by_size.setdefault(self.ctx.volume(self.ctx.types[ref].axes), []).append(ref)
        body: list[Stmt] = []
        for size, refs_of_size in by_size.items():
            pointers = tuple(address(shared(self.ctx.name(ref))) for ref in refs_of_size)
            count, pointer_list = (
                Number(len(refs_of_size)),
                cir.CompoundLiteral("real **[]", pointers),
            )
            body.append(ExprStmt(Apply("arena_alloc_all", (memory, size, count, pointer_list))))
        return body


def _with_sizes(expr: Expr, size: Scalar, context: KernelContext) -> Expr:
    """The length of a part, with the lengths of split axes replaced: `size(C)` in `size(C) / g`.

    A tensor has the length of a split axis. A part that is split itself has a formula.
    """
    if isinstance(size, SizeOf):
        if size.axis in dimensions(context.program):
            return arrow(CALL, f"size_{context.name(size.axis)}")
        split_axis = context.space[size.axis]
        if not split_axis.parts or split_axis.size is None:
            return expr
        return _with_sizes(context.scalar(split_axis.size, as_int=True), split_axis.size, context)
    if isinstance(expr, Infix) and isinstance(size, ApplyScalar):
        left, right = size.arguments
        return Infix(
            expr.operator,
            _with_sizes(expr.left, left, context),
            _with_sizes(expr.right, right, context),
        )
    return expr
