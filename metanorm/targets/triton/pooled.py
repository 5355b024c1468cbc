"""Statistics and softmax of narrow values: loops over what they pool, for the cells of a phase.

Statistics over the same axes that do not wait for each other are taken in one loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.accumulation import ACCUMULATIONS, WEIGHT, Part
from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import AxisMap, Count, Pool, Ref
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name, Stmt, Tuple
from metanorm.targets.triton.joining import identity, joined, joined_in_tile
from metanorm.targets.triton.places import group_of_row
from metanorm.targets.triton.scope import ROW, Scope
from metanorm.targets.triton.terms import ZERO, both, call, cast, full, infix, plus, upright

MOMENTS = ("weight", "mean", "squares")
KEPT = {"keep_dims": Literal(True)}
LOWEST = call("float", Literal("-inf"))


@dataclass(frozen=True)
class Taken:
    """One statistic or several that share what is added up: what it is taken of, the names of its
    sums, and the results by statistic."""

    op: Pool | Count
    sums: Mapping[str, Name]
    results: Mapping[str, Ref]


class PoolPrinter:
    """Prints loops over pools into the kernel of a phase."""

    def __init__(self, scope: Scope) -> None:
        self.s = scope
        self.f = scope.context
        self.pooled: list[tuple[str, ...]] = []  # the axes of each loop

    def pools(self, refs: Sequence[Ref]) -> None:
        """Statistics over the same axes, in one loop."""
        taken: dict[object, Taken] = {}
        for ref in refs:
            op = self.f.lets[ref].op
            assert isinstance(op, (Pool, Count))
            kind = "count" if isinstance(op, Count) else op.statistic
            moments = isinstance(op, Pool) and self._moments(op, refs)
            same = replace(op, statistic="var") if moments and isinstance(op, Pool) else op
            if same not in taken:
                parts = self._parts(op, moments)
                wanted = self.s.wanted(ref)
                sums = {p.name: self._accumulator(f"{wanted}_{p.name}", identity(p)) for p in parts}
                taken[same] = Taken(same, sums, {})
            taken[same] = replace(taken[same], results={**taken[same].results, kind: ref})
        axes = self.axes(refs[0])

        def collect(inside: Expr) -> list[Stmt]:
            return [one for each in taken.values() for one in self._added(each, inside)]

        self._loop(axes, collect, refs, self._by_group(refs[0]))
        for each in taken.values():
            self._finished(each, axes)

    def _parts(self, op: Pool | Count, moments: bool) -> tuple[Part, ...]:
        """What is accumulated; a weight only where not all that is pooled weighs the same."""
        if isinstance(op, Count):
            return (WEIGHT,)
        row = ACCUMULATIONS["var" if moments else op.statistic]
        by_group = any(isinstance(matrix, ByIndex) for _, matrix in op.over)
        alike = op.where is None and op.weight is None and not by_group
        return row.parts[-1:] if alike and row.rule != "moments" else row.parts

    def axes(self, ref: Ref) -> tuple[str, ...]:
        """The axes over which a statistic is taken."""
        op = self.f.lets[ref].op
        assert isinstance(op, (Pool, Count))
        return self.f.leaves(axis for axis, _ in op.over)

    def _by_group(self, ref: Ref) -> bool:
        """Whether a statistic takes the rows of each group."""
        op = self.f.lets[ref].op
        assert isinstance(op, (Pool, Count))
        return any(isinstance(matrix, ByIndex) for _, matrix in op.over)

    def softmax(self, ref: Ref, op: AxisMap) -> None:
        """Shares of one that follow the exponentials of values along an axis."""
        axes = (op.axis,)
        largest = self._accumulator("largest", LOWEST)

        def raised(inside: Expr) -> list[Stmt]:
            value = call("tl.where", inside, self.s.value(op.value), LOWEST)
            return [Assign((largest,), call("tl.maximum", largest, value))]

        self._loop(axes, raised, [ref])
        self.s.body.append(Assign((largest,), call("tl.max", largest, ZERO, **KEPT)))
        total = self._accumulator("total")

        def added(inside: Expr) -> list[Stmt]:
            share = call("tl.exp", infix("-", self.s.value(op.value), largest))
            value = call("tl.where", inside, share, ZERO)
            return [Assign((total,), infix("+", total, value))]

        self._loop(axes, added, [ref])
        own = call("tl.exp", infix("-", self.s.value(op.value), largest))
        self._keep(ref, infix("/", own, _sum(total)))

    # ---- statistics

    def _moments(self, op: Pool, refs: Sequence[Ref]) -> bool:
        """Whether the variance of the same values is taken as well."""
        if op.statistic not in ("mean", "var"):
            return False
        return any(self.f.lets[r].op == replace(op, statistic="var") for r in refs)

    def _added(self, taken: Taken, inside: Expr) -> list[Stmt]:
        """What one turn of the loop adds."""
        s, op, sums = self.s, taken.op, taken.sums
        counts = inside if op.where is None else infix("&", inside, s.value(op.where))
        weight: Expr = cast(counts, "REAL")
        if op.weight is not None:
            own = s.value(op.weight)
            counts = infix("&", counts, infix("!=", own, ZERO))
            weight = call("tl.where", counts, own, ZERO)
        more = {"weight": weight}
        if isinstance(op, Pool):
            value = s.value(op.value)
            if "squares" in sums:
                names = tuple(sums[part] for part in MOMENTS)
                value = call("tl.where", counts, value, ZERO)
                return [Assign(names, call("arithmetic.observed", *names, value, weight))]
            row = ACCUMULATIONS[op.statistic]
            value = infix("*", weight, value) if op.weight is not None and row.weighs else value
            last = row.parts[-1]
            more[last.name] = call("tl.where", counts, value, identity(last))
            parts = {part.name: part for part in row.parts}
            return [Assign((n,), joined(parts[p], n, more[p])) for p, n in sums.items()]
        return [Assign((n,), infix("+", n, more[part])) for part, n in sums.items()]

    def _finished(self, taken: Taken, axes: tuple[str, ...]) -> None:
        """The results, when the loop is over."""
        sums = taken.sums
        if "squares" in sums:
            names = tuple(sums[part] for part in MOMENTS)
            flags = (Literal(True), Literal(False))
            self.s.body.append(Assign(names, call("arithmetic.joined", *names, *flags)))
            weight, mean, squares = names
            own: dict[str, Expr] = {"mean": mean, "var": call("arithmetic.over", squares, weight)}
            for statistic, ref in taken.results.items():
                self._keep(ref, own[statistic])
            return
        ((statistic, ref),) = taken.results.items()
        if statistic not in ACCUMULATIONS or len(ACCUMULATIONS[statistic].parts) == 1:
            self._keep(ref, _sum(next(iter(sums.values()))))
            return
        row = ACCUMULATIONS[statistic]
        size = full(self.f.size(self.s.arguments, axes))
        count = _sum(sums["weight"]) if "weight" in sums else size
        last = row.parts[-1]
        if row.rule == "add":
            self._keep(ref, call("arithmetic.over", _sum(sums[last.name]), count))
            return
        found = joined_in_tile(last, sums[last.name], Literal(True), Literal(False))
        self._keep(ref, call("arithmetic.if_weighed", found, count))

    # ---- loops

    def _loop(
        self, axes: tuple[str, ...], collect: Callable[[Expr], list[Stmt]], refs: Sequence[Ref],
        by_group: bool = False,
    ) -> None:  # fmt: skip
        """A loop over all places along some axes, so many at a time; of rows, those of a group
        count where they are taken `by_group`."""
        s, names = self.s, self.s.arguments.names
        size = self.f.size(s.arguments, axes)
        s.enter(axes)
        variable = Name(names.fresh("place" if len(axes) > 1 else axes[0].lower()))
        start = names.fresh("offset")
        lane = plus(Name(start), upright(call("tl.arange", ZERO, Name("PARTS"))))
        s.body.append(Assign((variable,), lane))
        rest: Expr = variable
        for number, axis in reversed(list(enumerate(axes))):
            extent = self.f.size(s.arguments, (axis,))
            s.lies(axis, infix("%", rest, extent) if number else rest, ROW)
            rest = infix("//", rest, extent)
        in_pool = Name(names.fresh("in_pool"))
        s.body.append(Assign((in_pool,), infix("<", variable, size)))
        s.masks["row"] = in_pool
        inside = Name(names.fresh("counted"))
        condition = both(in_pool, s.masks.get("column"))
        if by_group:
            assert self.f.cell is not None
            group, _ = group_of_row(s)
            condition = both(condition, infix("==", group, s.at[self.f.cell]))
        assert condition is not None
        s.body.append(Assign((inside,), condition))
        arrays = {*s.local, *getattr(s, "available", ())}
        if self.f.nest.grouped in axes and not by_group and self.f.reads_groups(refs, arrays):
            assert self.f.cell is not None
            name = Name(names.fresh(self.f.cell.lower()))
            group, sides = group_of_row(s)
            s.body.append(Assign((name,), group))
            s.lies(self.f.cell, name, sides)
        s.masks["both"] = inside
        s.body.extend(collect(inside))
        s.leave(start, (ZERO, size, Name("PARTS")))
        self.pooled.append(tuple(f"size {axis}" for axis in axes))

    def _accumulator(self, wanted: str, value: Expr = ZERO) -> Name:
        """A number for each place of a tile, over all turns of a loop."""
        name = Name(self.s.arguments.names.fresh(wanted.lower()))
        shape = Tuple((Name("PARTS"), Name("CELLS")))
        self.s.body.append(Assign((name,), call("tl.full", shape, value, Name("REAL"))))
        return name

    def _keep(self, ref: Ref, value: Expr) -> None:
        name = Name(self.s.arguments.names.fresh(self.s.wanted(ref)))
        self.s.body.append(Assign((name,), value))
        self.s.found(ref, name)


def _sum(name: Expr) -> Expr:
    return call("tl.sum", name, ZERO, **KEPT)
