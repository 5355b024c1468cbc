"""Statistics of narrow values as C: loops that add up in double, and a variance about its mean.

What is pooled by a matrix is a sum over one of its axes. Where the matrix has zeros there is
nothing to add, so that the loop runs from the first entry of its line to the last.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metanorm.ir.accumulation import accumulation_of
from metanorm.ir.aggregation import ByIndex
from metanorm.ir.index import closure
from metanorm.ir.nodes import Map, Pool, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.nest.vanishing import vanishes_with
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Choice,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Prefix,
    Set,
    Stmt,
    product,
)
from metanorm.targets.native.joining import joining
from metanorm.targets.native.lines import along, on_a_line
from metanorm.targets.native.values import Values

ZERO, ONE = cir.Number(0), cir.Number(1)
TOTAL, COUNT, CENTRE, SQUARES = (Name(n) for n in ("total", "count", "centre", "squares"))
SHARE, GAP = Name("share"), Name("gap")


class PoolPrinter:
    """Prints one element of a pool; of a mean and a variance of the same values, both."""

    def __init__(self, values: Values, results: Sequence[Ref]) -> None:
        lets = [values.lets[ref] for ref in results]
        pools = {let.op.statistic: let.name for let in lets if isinstance(let.op, Pool)}
        self.let, op = lets[0], lets[0].op
        assert isinstance(op, Pool) and len(pools) == len(results)
        self.v = values
        self.f = values.f
        self.op: Pool = op
        self.results = pools
        self.row = accumulation_of(frozenset(pools))
        self.axes = [leaf for axis, _ in op.over for leaf in self.f.space.leaves(axis)]
        by_index = (axis for axis, matrix in op.over if isinstance(matrix, ByIndex))
        self.grouped = next(by_index, None)  # the axis of which each group is pooled
        self.link = self._link()
        self.at = values.here([*self.let.type.axes, *self.axes])
        self.locals = {
            ref: Name(self.f.name(ref))
            for ref in self._locals([r for r in (op.value, op.where, op.weight) if r])
        }
        self.weight = self._weight()

    def statements(self) -> list[Stmt]:
        """The statements, which set the element in the end."""
        if on_a_line(self.v, self.op, self.axes):
            return [along(self.v, self.results, self.op, self.axes)]
        join = joining(self.row)
        body: list[Stmt] = [Declare("double", "total", join.identity)]
        value = self.v.value(self.op.value, self.at, self.locals)
        added, reduced = join.into(TOTAL, self._weighed(value)), [("total", join.operator)]
        if len(self.row.parts) == 1:
            return [*body, *self._loops([added], reduced), self._set(self.row.statistic, TOTAL)]
        if self.weight is None:
            body.append(Declare("const double", "count", Prefix("(double)", self._volume())))
            body += self._loops([added], reduced)
        else:
            body.append(Declare("double", "count", ZERO))
            body += self._loops([Set(COUNT, "+=", SHARE), added], [*reduced, ("count", "+")])
        if self.row.finish == "total if weighed":
            return [*body, self._set(self.row.statistic, _of_some(TOTAL))]
        if self.row.rule != "moments":
            return [*body, self._set("mean", _share(TOTAL))]
        body.append(Declare("const double", "centre", _share(TOTAL)))
        body.append(Declare("double", "squares", ZERO))
        gap = Declare("const double", "gap", Infix("-", value, CENTRE))
        square = Set(SQUARES, "+=", self._weighed(Infix("*", GAP, GAP)))
        body += self._loops([gap, square], [("squares", "+")])
        if "mean" in self.results:
            body.append(self._set("mean", CENTRE))
        return [*body, self._set("var", _share(SQUARES))]

    @property
    def work(self) -> Expr | None:
        """How many elements are added in all, where positions are mixed by a given matrix, or by
        edges."""
        if self.link is not None:
            return product(self._edges("start", self.f.size(self.other)), self._volume())
        if any(set(axes) & set(self.axes) for axes in self.f.matrices.values()):
            return self.f.volume([*self.let.type.axes, *self.axes])
        return None

    def _set(self, statistic: str, value: Expr) -> Stmt:
        element = self.v.value(self.results[statistic], self.at)
        return Set(element, "=", Prefix("(real)", value))

    # ---- what is added

    def _locals(self, wanted: Iterable[Ref]) -> list[Ref]:
        """The values that are computed for each element that is added, in their order."""

        def written_out(refs: Iterable[Ref]) -> list[Ref]:
            ops = ((ref, self.v.lets[ref].op) for ref in refs if ref in self.v.inlined)
            return [ref for ref, op in ops if not isinstance(op, Rename)]

        found = closure(written_out(wanted), lambda ref: written_out(operands(self.v.lets[ref].op)))
        return [
            let.name for let in self.f.program.body if let.name in found and isinstance(let.op, Map)
        ]

    def _weight(self) -> Expr | None:
        """What an element counts, where that is not one."""
        where, weight = (
            None if ref is None else self.v.value(ref, self.at, self.locals)
            for ref in (self.op.where, self.op.weight)
        )
        return weight if where is None else Choice(where, weight or ONE, ZERO)

    def _weighed(self, value: Expr) -> Expr:
        """A weight of zero leaves a NaN out."""
        if self.weight is None:
            return value
        inside = Infix("*", SHARE, value) if self.row.weighs else value
        return Choice(Infix("!=", SHARE, ZERO), inside, joining(self.row).identity)

    # ---- loops

    def _loops(self, added: Sequence[Stmt], joined: Sequence[tuple[str, str]]) -> list[Stmt]:
        body: list[Stmt] = []
        earlier: dict[Ref, Expr] = {}
        for ref in self.locals:
            kind = "const int" if self.v.lets[ref].type.kind == "bool" else "const real"
            body.append(Declare(kind, self.f.name(ref), self.v.written_out(ref, self.at, earlier)))
            earlier[ref] = self.locals[ref]
        if self.weight is not None:
            body.append(Declare("const double", "share", self.weight))
        body += added
        for number, axis in enumerate(reversed(self.axes)):
            low, high = self._bounds(axis)
            inner = number == 0
            reduced = tuple(joined) if inner else ()
            variable = self.f.variables[axis]
            if axis == self.linked:
                body = [self._along_edges(axis, body)]
                continue
            if axis == self.grouped:
                low, high = self.f.rows_of(self.at[self.f.cell or ""])
                body = [For("place", low, high, (self.f.row_at_place(), *body))]
                continue
            if axis == self.f.nest.grouped and self.v.reads_groups([self.let.name]):
                body = [self.f.group_of_row(), *body]
            body = [For(variable, low, high, tuple(body), simd=inner, reduced=reduced)]
        return body

    def _link(self) -> Ref | None:
        """The links of which the pool follows those of one end."""
        for ref, link in self.f.links.items():
            pooled = [axis for axis in (link.source, link.target) if axis in self.axes]
            if len(pooled) == 1 and vanishes_with(self.v.lets, self.op, ref):
                (self.linked,) = pooled
                self.other = link.target if self.linked == link.source else link.source
                return ref
        self.linked = self.other = ""
        return None

    def _edges(self, part: str, place: Expr) -> Expr:
        """Of the list of edges that is followed, an element of a part."""
        assert self.link is not None
        list_ = "to" if self.linked == self.f.links[self.link].source else "from"
        return Element(Name(f"v->{self.f.name(self.link)}.{list_}.{part}"), place)

    def _along_edges(self, axis: str, body: Sequence[Stmt]) -> Stmt:
        """The loop over the edges of the node at hand."""
        here = self.at[self.other]
        low, high = (self._edges("start", n) for n in (here, Infix("+", here, ONE)))
        end = Declare("const int64_t", self.f.variables[axis], self._edges("other", Name("edge")))
        return For("edge", low, high, (end, *body))

    def _volume(self) -> Expr:
        """How many elements are pooled of each node, or in all."""
        apart = (self.grouped, self.linked)
        volume = self.f.volume(axis for axis in self.axes if axis not in apart)
        if self.grouped is None:
            return volume
        first, after = self.f.rows_of(self.at[self.f.cell or ""])
        return product(Infix("-", after, first), volume)

    def _bounds(self, axis: str) -> tuple[Expr, Expr]:
        """From the first entry of a matrix to the last, where there is nothing to add beside it."""
        for ref, (row, column) in self.f.matrices.items():
            if axis not in (row, column) or not vanishes_with(self.v.lets, self.op, ref):
                continue
            line, lines = (row, "rows") if axis == column else (column, "columns")
            if line in self.let.type.axes:
                extent = f"v->{self.f.name(ref)}.{lines}"
                here = self.at[line]
                return Element(Name(f"{extent}.first"), here), Element(Name(f"{extent}.end"), here)
        return ZERO, self.f.size(axis)


def _of_some(total: Expr) -> Expr:
    """What was found of the elements that count; zero where none does."""
    return Choice(Infix("!=", COUNT, ZERO), total, ZERO)


def _share(total: Expr) -> Expr:
    """What a total is for each that counts; zero where nothing does."""
    return Choice(Infix("!=", COUNT, ZERO), Infix("/", total, COUNT), ZERO)
