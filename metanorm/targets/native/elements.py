"""Print the wide values of a sweep: the reads of a row, and the values of each element."""

from __future__ import annotations

from metanorm.ir.nodes import Input, Let, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Block
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Declare, Element, Expr, Name, Prefix, Stmt
from metanorm.targets.native.named_indexes import with_named_indexes
from metanorm.targets.native.nesting import inlined_operators
from metanorm.targets.native.pointwise import pointwise
from metanorm.targets.native.tiling import ELEMENT, LENGTH, Tiling
from metanorm.targets.native.values import NarrowValues


class Elements:
    """The wide values of one sweep."""

    def __init__(self, tiling: Tiling, values: NarrowValues, sweep: Block) -> None:
        self.tiling, self.ctx = tiling, tiling.ctx
        self.values, self.sweep = values, sweep
        self.maps = {let.name: let for let in sweep.lets}

    def reads_and_declarations(self, needed: set[Ref]) -> tuple[list[Stmt], list[Stmt]]:
        """The reads, which run once per row, and the declarations, which run once per element."""
        needed_refs = set(needed)
        lets: list[Let] = []
        for let in reversed(self.sweep.lets):
            if let.name in needed_refs:
                needed_refs |= set(operands(let.op))
                lets.append(let)
        row_reads: list[Stmt] = []
        declarations: list[Stmt] = []
        read_refs: set[Ref] = set()
        for let in reversed(lets):
            if isinstance(let.op, Input):
                row_reads.append(self._input_read(let.op.name))
        for ref in [r for let in reversed(lets) for r in operands(let.op)] + sorted(needed):
            if ref not in self.maps and ref not in read_refs and not self.values.is_inline(ref):
                read_refs.add(ref)
                row_reads.append(self._narrow_read(ref))
        computed = [let for let in reversed(lets) if not isinstance(let.op, Input)]
        inlined = inlined_operators(computed, needed)

        def read(ref: Ref) -> Expr:
            if ref in inlined:
                return pointwise(self.ctx, self.maps[ref].op, read)
            return self.element_value(ref)

        for let in computed:
            if let.name not in inlined:
                kind = "const int" if let.type.kind == "bool" else "const real"
                value = pointwise(self.ctx, let.op, read)
                declarations.append(Declare(kind, self.ctx.name(let.name), value))
        return with_named_indexes(self.ctx, row_reads), declarations

    def element_value(self, ref: Ref) -> Expr:
        """A value at element `i` of the current row."""
        let = self.values.lets[ref]
        if ref in self.maps:
            if isinstance(let.op, Input):
                return Element(Name(f"{self.ctx.name(let.op.name)}_here"), ELEMENT)
            return Name(self.ctx.name(ref))
        if self.values.is_inline(ref):
            return self.values.value(ref, self.tiling.element_positions())
        name = Name(f"{self.ctx.name(ref)}_here")
        axes = self.ctx.types[ref].axes
        if not set(self.tiling.vector) & set(axes):
            return name
        stride = self.ctx.stride(self.ctx.axis_order(ref), self.tiling.vector)
        return Element(name, cir.product(ELEMENT, stride))

    def _narrow_read(self, ref: Ref) -> Stmt:
        """The read of a narrow value: a number, or a pointer if the value varies along the row."""
        axes = self.ctx.types[ref].axes
        name = f"{self.ctx.name(ref)}_here"
        value = self.values.value(ref, self.tiling.at)
        if set(self.tiling.vector) & set(axes):
            return Declare("const real *", name, Prefix("&", value))
        return Declare("const real", name, value)

    def _input_read(self, field: str) -> Stmt:
        """The read of an input's row."""
        name = self.ctx.name(field)
        where = (
            Name(f"&{self.ctx.name(field)}"),
            self.tiling.row_point(),
            LENGTH,
            Name(f"{name}_row"),
        )
        return Declare("const real *", f"{name}_here", Apply("row", where))
