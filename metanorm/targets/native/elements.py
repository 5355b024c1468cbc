"""Print the wide values of a sweep: the reads of a row, and the values of each element."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.index import closure
from metanorm.ir.nodes import Input, Let, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Block
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Conditional,
    Declare,
    Element,
    Expr,
    Infix,
    Name,
    Prefix,
    Stmt,
)
from metanorm.targets.native.joining import join_rule
from metanorm.targets.native.named_indexes import with_named_indexes
from metanorm.targets.native.nesting import inlined_operators
from metanorm.targets.native.pointwise import pointwise
from metanorm.targets.native.tiling import ELEMENT, LENGTH, ONE, TILE, ZERO, Tiling, row_loop
from metanorm.targets.native.values import NarrowValues


class Elements:
    """The wide values of one sweep."""

    def __init__(
        self, tiling: Tiling, values: NarrowValues, sweep: Block, tiled: Collection[Ref] = ()
    ) -> None:
        """`tiled` wide values are in memory already, where `values` says."""
        self.tiling, self.ctx = tiling, tiling.ctx
        self.values, self.tiled = values, tiled
        self.maps = {let.name: let for let in sweep.lets if let.name not in tiled}
        self.extra_axes = self.ctx.nest.extra_axes
        self.gathered: set[Ref] = set()  # what lies side by side in a row of its own meanwhile

    def reads_and_declarations(self, needed: set[Ref]) -> tuple[list[Stmt], list[Stmt]]:
        """The reads, which run once per row, and the declarations, which run once per element."""
        lets = self._computed(needed)
        read_refs = self._closure(needed)
        row_reads = [
            self._input_read(let.op.name)
            for let in self.maps.values()
            if isinstance(let.op, Input) and let.name in read_refs
        ]
        pools = [let for let in self.maps.values() if _is_pool(let) and let.name in read_refs]
        plain = [let for let in lets if not _is_pool(let)]
        row_reads += self._narrow_reads(plain, needed)
        pool_loops = self._pool_loops(pools)
        declarations = self._declarations(plain, needed)
        return [*with_named_indexes(self.ctx, row_reads), *pool_loops], declarations

    def _closure(self, needed: Collection[Ref]) -> set[Ref]:
        """All wide values that some are computed from."""

        def reads(ref: Ref) -> Iterator[Ref]:
            return (r for r in operands(self.maps[ref].op) if r in self.maps)

        return closure((ref for ref in needed if ref in self.maps), reads)

    def _computed(self, needed: Collection[Ref]) -> list[Let]:
        """The wide values that some are computed from, in order; pools are computed before."""
        needed_refs = set(needed)
        lets: list[Let] = []
        for let in reversed(self.maps.values()):
            if let.name in needed_refs:
                lets.append(let)
                if not _is_pool(let):
                    needed_refs |= set(operands(let.op))
        return lets[::-1]

    def _narrow_reads(self, lets: Sequence[Let], needed: Collection[Ref]) -> list[Stmt]:
        operand_refs = [r for let in lets for r in operands(let.op)]
        refs = dict.fromkeys([*operand_refs, *sorted(needed)])
        return [
            self._narrow_read(ref)
            for ref in refs
            if ref not in self.maps and ref not in self.gathered and not self.values.is_inline(ref)
        ]

    def _declarations(self, lets: Sequence[Let], needed: Collection[Ref]) -> list[Stmt]:
        declarations: list[Stmt] = []
        computed = [let for let in lets if not isinstance(let.op, Input)]
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
        return declarations

    # ---- what an element has several of

    def _pool_loops(self, pools: Sequence[Let]) -> list[Stmt]:
        """Loops that pool, for each element of the row, its values along extra axes: of pools along
        the same axes, of which none depends on another, one loop."""
        statements: list[Stmt] = []
        loops: list[tuple[tuple[str, ...], list[Let]]] = []
        for let in pools:
            assert isinstance(let.op, Pool)
            axes = tuple(a for a in self.ctx.types[let.op.value].axes if a in self.extra_axes)
            inside = self._closure(operands(let.op))
            if not loops or loops[-1][0] != axes or inside & {x.name for x in loops[-1][1]}:
                loops.append((axes, []))
            loops[-1][1].append(let)
        for axes, together in loops:
            statements += self._pool_loop(axes, together)
        return statements

    def _pool_loop(self, axes: Sequence[str], pools: Sequence[Let]) -> list[Stmt]:
        statements: list[Stmt] = []
        joined: list[Stmt] = []
        initial: list[Stmt] = []
        values: set[Ref] = set()
        for let in pools:
            assert isinstance(let.op, Pool)
            join = join_rule(ACCUMULATIONS[let.op.statistic])
            total = Element(Name(self.ctx.name(let.name)), ELEMENT)
            statements.append(Declare("real", self.ctx.name(let.name), length=TILE))
            initial.append(Assign(total, "=", join.identity))
            joined.append(join.join_statement(total, self.element_value(let.op.value)))
            values.add(let.op.value)
        lets = [let for let in self._computed(values) if let not in pools]
        plain = [let for let in lets if not _is_pool(let)]
        reads = with_named_indexes(self.ctx, self._narrow_reads(plain, values))
        body = [*reads, row_loop([*self._declarations(plain, values), *joined])]
        return [*statements, row_loop(initial), *self.tiling.over_extra(axes, body)]

    def _pooled(self, let: Let, op: Pool) -> Expr:
        """The result of a pool; of no values it is zero."""
        total = Element(Name(self.ctx.name(let.name)), ELEMENT)
        if op.statistic == "sum":
            return total
        count = self.ctx.volume(leaf for a, _ in op.over for leaf in self.ctx.space.leaves(a))
        if op.statistic == "mean":
            return Infix("/", total, Prefix("(real)", Apply("max", (count, cir.Number(1)))))
        return Conditional(Infix(">", count, ZERO), total, ZERO)

    def gather(self, needed: Collection[Ref]) -> list[Stmt]:
        """Put side by side what is the same for all rows of a tile, but lies in steps."""
        statements: list[Stmt] = []
        self.gathered = set()
        lets = [self.maps[ref] for ref in self._closure(needed)]
        rows = {axis for group in self.tiling.rows for axis in group}
        for ref in sorted({r for let in lets for r in operands(let.op)} | set(needed)):
            axes = set(self.ctx.types[ref].axes)
            stepped = set(self.tiling.vector) & axes and self._step(ref) != ONE
            if ref in self.maps or self.values.is_inline(ref) or not stepped or rows & axes:
                continue
            name = self.ctx.name(ref)
            statements += [self._narrow_read(ref), Declare("real", f"{name}_row", length=TILE)]
            copy = Assign(Element(Name(f"{name}_row"), ELEMENT), "=", self.element_value(ref))
            statements.append(row_loop([copy]))
            self.gathered.add(ref)
        return statements

    def _step(self, ref: Ref) -> Expr:
        if ref in self.tiled:
            return ONE
        return self.ctx.stride(self.ctx.axis_order(ref), self.tiling.vector)

    def element_value(self, ref: Ref) -> Expr:
        """A value at element `i` of the current row."""
        let = self.values.lets[ref]
        if ref in self.maps:
            if isinstance(let.op, Input):
                return Element(Name(f"{self.ctx.name(let.op.name)}_here"), ELEMENT)
            if isinstance(let.op, Pool):
                return self._pooled(let, let.op)
            return Name(self.ctx.name(ref))
        if self.values.is_inline(ref):
            return self.values.value(ref, self.tiling.element_positions())
        name = Name(f"{self.ctx.name(ref)}_here")
        axes = self.ctx.types[ref].axes
        if not set(self.tiling.vector) & set(axes):
            return name
        if ref in self.gathered:
            return Element(Name(f"{self.ctx.name(ref)}_row"), ELEMENT)
        return Element(name, cir.product(ELEMENT, self._step(ref)))

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
            Prefix("&", Name(self.ctx.name(field))),
            self.tiling.row_point(),
            LENGTH,
            Name(f"{name}_row"),
        )
        return Declare("const real *", f"{name}_here", Apply("row", where))


def _is_pool(let: Let) -> bool:
    """Whether a wide value is pooled from several values of its element."""
    return isinstance(let.op, Pool)
