"""Print statistics of narrow values: loops that accumulate in double, with two-pass variances.

A pool by a given matrix is a sum over one of its axes. Zeros of the matrix add nothing, so that the
loop runs from the first nonzero entry of a row or column to the last one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from metanorm.ir.accumulation import accumulation_of
from metanorm.ir.aggregation import ByIndex
from metanorm.ir.index import closure
from metanorm.ir.nodes import Map, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.nest.links import followed_link
from metanorm.nest.vanishing import vanishes_with
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Assign,
    Conditional,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Prefix,
    Stmt,
    product,
)
from metanorm.targets.native.inlined import reads_elsewhere
from metanorm.targets.native.joining import join_rule
from metanorm.targets.native.members import shared
from metanorm.targets.native.named_indexes import with_single_uses
from metanorm.targets.native.strided_runs import is_strided_run, strided_statistic
from metanorm.targets.native.values import NarrowValues

ZERO, ONE = cir.Number(0), cir.Number(1)
TOTAL, COUNT, CENTRE, SQUARES = (Name(n) for n in ("total", "count", "centre", "squares"))
SHARE, GAP = Name("share"), Name("gap")


class PoolPrinter:
    """Prints one element of a pool. A mean and a variance of the same values are one pool."""

    def __init__(self, values: NarrowValues, results: Sequence[Ref]) -> None:
        lets = [values.lets[ref] for ref in results]
        pools = {let.op.statistic: let.name for let in lets if isinstance(let.op, Pool)}
        self.let, op = lets[0], lets[0].op
        assert isinstance(op, Pool) and len(pools) == len(results)
        self.values = values
        self.ctx = values.ctx
        self.op: Pool = op
        self.results = pools
        self.row = accumulation_of(frozenset(pools))
        self.axes = [leaf for axis, _ in op.over for leaf in self.ctx.space.leaves(axis)]
        by_index = (axis for axis, matrix in op.over if isinstance(matrix, ByIndex))
        self.grouped = next(by_index, None)  # the axis of which each group is pooled
        self.followed = followed_link(self.ctx.program, op, self.axes)
        self.at = values.loop_positions([*self.let.type.axes, *self.axes])
        self.locals = {
            ref: Name(self.ctx.name(ref))
            for ref in self._locals([r for r in (op.value, op.where, op.weight) if r])
        }
        self.weight = self._weight()

    def statements(self) -> list[Stmt]:
        """The statements that compute the element and store it."""
        if is_strided_run(self.values, self.op, self.axes):
            return [strided_statistic(self.values, self.results, self.op, self.axes)]
        join = join_rule(self.row)
        body: list[Stmt] = [Declare("double", "total", join.identity)]
        value = self.values.value(self.op.value, self.at, self.locals)
        added, reduced = (
            join.join_statement(TOTAL, self._weighted(value)),
            [("total", join.operator)],
        )
        if len(self.row.parts) == 1:
            return [*body, *self._loops([added], reduced), self._set(self.row.statistic, TOTAL)]
        if self.weight is None:
            body.append(Declare("const double", "count", Prefix("(double)", self._volume())))
            body += self._loops([added], reduced)
        else:
            body.append(Declare("double", "count", ZERO))
            body += self._loops([Assign(COUNT, "+=", SHARE), added], [*reduced, ("count", "+")])
        if self.row.finish == "total if weighed":
            return [*body, self._set(self.row.statistic, _if_counted(TOTAL))]
        if self.row.rule != "moments":
            return [*body, self._set("mean", _per_counted(TOTAL))]
        body.append(Declare("const double", "centre", _per_counted(TOTAL)))
        body.append(Declare("double", "squares", ZERO))
        gap = Declare("const double", "gap", Infix("-", value, CENTRE))
        square = Assign(SQUARES, "+=", self._weighted(Infix("*", GAP, GAP)))
        body += self._loops([gap, square], [("squares", "+")])
        if "mean" in self.results:
            body.append(self._set("mean", CENTRE))
        return [*body, self._set("var", _per_counted(SQUARES))]

    @property
    def work(self) -> Expr | None:
        """The number of terms in all, if a given matrix or edges mix positions; else `None`."""
        if self.followed is not None:
            nodes = self.ctx.size(self.followed.other)
            return product(self._edges("start", nodes), self._volume())
        if any(set(axes) & set(self.axes) for axes in self.ctx.matrices.values()):
            return self.ctx.volume([*self.let.type.axes, *self.axes])
        return None

    def _set(self, statistic: str, value: Expr) -> Stmt:
        element = self.values.value(self.results[statistic], self.at)
        return Assign(element, "=", Prefix("(real)", value))

    # ---- terms

    def _locals(self, refs: Iterable[Ref]) -> list[Ref]:
        """The inlined values that the loop body computes for each term, in order."""

        def inlined_operands(read: Iterable[Ref]) -> list[Ref]:
            ops = ((ref, self.values.lets[ref].op) for ref in read if ref in self.values.inlined)
            return [ref for ref, op in ops if not reads_elsewhere(op)]

        inlined = closure(
            inlined_operands(refs), lambda ref: inlined_operands(operands(self.values.lets[ref].op))
        )
        return [
            let.name
            for let in self.ctx.program.body
            if let.name in inlined and isinstance(let.op, Map)
        ]

    def _weight(self) -> Expr | None:
        """The weight of a term; `None` if every term has weight one."""
        where, weight = (
            None if ref is None else self.values.value(ref, self.at, self.locals)
            for ref in (self.op.where, self.op.weight)
        )
        return weight if where is None else Conditional(where, weight or ONE, ZERO)

    def _weighted(self, value: Expr) -> Expr:
        """The weighted value. A term of weight zero adds nothing, even if its value is NaN."""
        if self.weight is None:
            return value
        weighted = Infix("*", SHARE, value) if self.row.weighs else value
        return Conditional(Infix("!=", SHARE, ZERO), weighted, join_rule(self.row).identity)

    # ---- loops

    def _loops(self, added: Sequence[Stmt], joined: Sequence[tuple[str, str]]) -> list[Stmt]:
        body: list[Stmt] = []
        earlier: dict[Ref, Expr] = {}
        for ref in self.locals:
            kind = "const int" if self.values.lets[ref].type.kind == "bool" else "const real"
            body.append(
                Declare(
                    kind, self.ctx.name(ref), self.values.inlined_expression(ref, self.at, earlier)
                )
            )
            earlier[ref] = self.locals[ref]
        if self.weight is not None:
            body.append(Declare("const double", "share", self.weight))
        body = with_single_uses([*body, *added])
        for number, axis in enumerate(reversed(self.axes)):
            low, high = self._bounds(axis)
            inner = number == 0
            reduced = tuple(joined) if inner else ()
            variable = self.ctx.variables[axis]
            if self.followed is not None and axis == self.followed.pooled:
                body = [self._along_edges(axis, body)]
                continue
            if axis == self.grouped:
                low, high = self.ctx.group_row_range(self.at[self.ctx.group_axis or ""])
                body = [For("place", low, high, (self.ctx.row_declaration(), *body))]
                continue
            if axis == self.ctx.nest.grouped_axis and self.values.reads_groups([self.let.name]):
                body = [self.ctx.group_declaration(), *body]
            body = [For(variable, low, high, tuple(body), simd=inner, reduced=reduced)]
        return body

    def _edges(self, part: str, index: Expr) -> Expr:
        """An element of the array `part` of the sorted edge list that the pool follows."""
        assert self.followed is not None
        direction = "to" if self.followed.into else "from"
        return Element(cir.dot(shared(self.ctx.name(self.followed.ref)), direction, part), index)

    def _along_edges(self, axis: str, body: Sequence[Stmt]) -> Stmt:
        """The loop over the edges of the current node."""
        assert self.followed is not None
        position = self.at[self.followed.other]
        low, high = (self._edges("start", n) for n in (position, Infix("+", position, ONE)))
        end = Declare("const int64_t", self.ctx.variables[axis], self._edges("other", Name("edge")))
        return For("edge", low, high, (end, *body))

    def _volume(self) -> Expr:
        """The number of pooled elements; with edges, per edge."""
        counted_apart = (self.grouped, self.followed.pooled if self.followed else None)
        volume = self.ctx.volume(axis for axis in self.axes if axis not in counted_apart)
        if self.grouped is None:
            return volume
        first, after = self.ctx.group_row_range(self.at[self.ctx.group_axis or ""])
        return product(Infix("-", after, first), volume)

    def _bounds(self, axis: str) -> tuple[Expr, Expr]:
        """The bounds of a loop over an axis. Along an axis of a given matrix they skip outer zeros
        of the matrix, if terms vanish there."""
        for ref, (row, column) in self.ctx.matrices.items():
            if axis not in (row, column) or not vanishes_with(self.values.lets, self.op, ref):
                continue
            line, lines = (row, "rows") if axis == column else (column, "columns")
            if line in self.let.type.axes:
                extent, position = cir.dot(shared(self.ctx.name(ref)), lines), self.at[line]
                first, end = (Element(cir.dot(extent, part), position) for part in ("first", "end"))
                return first, end
        return ZERO, self.ctx.size(axis)


def _if_counted(total: Expr) -> Expr:
    """A result, or zero if no element counts."""
    return Conditional(Infix("!=", COUNT, ZERO), total, ZERO)


def _per_counted(total: Expr) -> Expr:
    """A total divided by the count, or zero if the count is zero."""
    return Conditional(Infix("!=", COUNT, ZERO), Infix("/", total, COUNT), ZERO)
