"""Wide values as C: what a row reads, and what is computed for each of its elements."""

from __future__ import annotations

from metanorm.ir.nodes import Input, Let, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Block
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Declare, Element, Expr, Name, Prefix, Stmt
from metanorm.targets.native.nesting import nested
from metanorm.targets.native.places import with_named_places
from metanorm.targets.native.pointwise import pointwise
from metanorm.targets.native.tiling import EACH, LENGTH, Tiling
from metanorm.targets.native.values import Values


class Elements:
    """The wide values of one sweep."""

    def __init__(self, tiling: Tiling, values: Values, sweep: Block) -> None:
        self.t, self.f = tiling, tiling.f
        self.values, self.sweep = values, sweep
        self.maps = {let.name: let for let in sweep.lets}

    def computed(self, needed: set[Ref]) -> tuple[list[Stmt], list[Stmt]]:
        """What a row has to read, and the values computed from that for each element of it."""
        wanted = set(needed)
        lets: list[Let] = []
        for let in reversed(self.sweep.lets):
            if let.name in wanted:
                wanted |= set(operands(let.op))
                lets.append(let)
        reading: list[Stmt] = []
        inner: list[Stmt] = []
        seen: set[Ref] = set()
        for let in reversed(lets):
            if isinstance(let.op, Input):
                reading.append(self.read(let.op.name))
        for ref in [r for let in reversed(lets) for r in operands(let.op)] + sorted(needed):
            if ref not in self.maps and ref not in seen and not self.values.inline(ref):
                seen.add(ref)
                reading.append(self._narrow_row(ref))
        computed = [let for let in reversed(lets) if not isinstance(let.op, Input)]
        inside = nested(computed, needed)

        def read(ref: Ref) -> Expr:
            if ref in inside:
                return pointwise(self.f, self.maps[ref].op, read)
            return self.wide(ref)

        for let in computed:
            if let.name not in inside:
                kind = "const int" if let.type.kind == "bool" else "const real"
                value = pointwise(self.f, let.op, read)
                inner.append(Declare(kind, self.f.name(let.name), value))
        return with_named_places(self.f, reading), inner

    def wide(self, ref: Ref) -> Expr:
        """A value at element `i` of the row."""
        let = self.values.lets[ref]
        if ref in self.maps:
            if isinstance(let.op, Input):
                return Element(Name(f"{self.f.name(let.op.name)}_here"), EACH)
            return Name(self.f.name(ref))
        if self.values.inline(ref):
            return self.values.value(ref, self.t.element())
        name = Name(f"{self.f.name(ref)}_here")
        axes = self.f.types[ref].axes
        if not set(self.t.vector) & set(axes):
            return name
        stride = self.f.stride(self.f.order(ref), self.t.vector)
        return Element(name, cir.product(EACH, stride))

    def _narrow_row(self, ref: Ref) -> Stmt:
        """A narrow value beside a row: one number, or an array along it."""
        axes = self.f.types[ref].axes
        name = f"{self.f.name(ref)}_here"
        value = self.values.value(ref, self.t.at)
        if set(self.t.vector) & set(axes):
            return Declare("const real *", name, Prefix("&", value))
        return Declare("const real", name, value)

    def read(self, field: str) -> Stmt:
        """The row of an input."""
        name = self.f.name(field)
        where = (Name(f"&{self.f.name(field)}"), self.t.point(), LENGTH, Name(f"{name}_row"))
        return Declare("const real *", f"{name}_here", Apply("row", where))
