"""Narrow values as C: loops over their own axes, in which everything on the same axes is done.

A value that another loop, a sweep or an output reads is kept in an array; any other is a local
of its loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from metanorm.ir.nodes import (
    POINTWISE,
    AxisMap,
    Buffer,
    Input,
    Let,
    Lookup,
    Param,
    Pool,
    Ref,
    Rename,
)
from metanorm.ir.operands import operands
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cells import CellGroup
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Set,
    Stmt,
)
from metanorm.targets.native.columns import columns, goes_down
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.joining import TAKEN
from metanorm.targets.native.lines import ALONG
from metanorm.targets.native.nesting import nested
from metanorm.targets.native.places import with_named_places
from metanorm.targets.native.pool import PoolPrinter
from metanorm.targets.native.scan import ScanPrinter, reach_of
from metanorm.targets.native.softmax import softmax
from metanorm.targets.native.values import At, Values

GIVEN = (Input, Param, Buffer)
TWINS = {"mean": "var", "var": "mean"}


class Narrow:
    """Prints the values of cells of one kernel."""

    def __init__(
        self, context: KernelContext, groups: Sequence[CellGroup], kept: Collection[Ref]
    ) -> None:
        self.f = context
        self.lets = context.program.index.lets
        self.measured = {
            ref: (finish.reduction, context.nest.reductions[finish.reduction], finish.statistic)
            for ref, finish in context.nest.finishes.items()
        }
        self.values = Values(context, self.measured, kept)
        self.clusters = {id(s): self._clusters(s) for s in groups}
        self.stored = self._stored(groups, set(kept))

    # ---- what is done where

    def _order(self, group: CellGroup) -> list[Ref]:
        found = (self.f.nest.reductions[number] for number in group.finished)
        measured = [ref for r in found for _, ref in r.results]
        return [*measured, *(let.name for let in group.lets if self._computed(let))]

    def _computed(self, let: Let) -> bool:
        """Whether a value takes work: not what is given, or is written out wherever it is read."""
        written_out = let.name in self.values.inlined or self.values.inline(let.name)
        return not isinstance(let.op, GIVEN) and not written_out

    def _simple(self, ref: Ref) -> bool:
        """Whether a value is computed from values at the same place alone."""
        same_place = isinstance(self.lets[ref].op, POINTWISE)
        return ref in self.measured or same_place or self.values.sized(ref)

    def _clusters(self, group: CellGroup) -> list[list[Ref]]:
        """The values in an order that puts those on the same axes together."""
        left = self._order(group)
        done: set[Ref] = set()
        clusters: list[list[Ref]] = []
        while left:
            ready = [r for r in left if not self._needs(r, left, done)]
            cluster = [ready[0]]
            cluster += self._twin(ready[0], ready)
            done.update(cluster)
            axes = self.lets[ready[0]].type.axes
            while self._simple(ready[0]):
                more = next(
                    (
                        r for r in left
                        if r not in done and self._simple(r) and self.lets[r].type.axes == axes
                        and not self._needs(r, left, done) and not self._elsewhere(r, cluster)
                    ),
                    None,
                )  # fmt: skip
                if more is None:
                    break
                cluster.append(more)
                done.add(more)
            left = [r for r in left if r not in done]
            clusters.append(cluster)
        return clusters

    def _twin(self, ref: Ref, ready: Sequence[Ref]) -> list[Ref]:
        """The variance beside a mean, or the mean beside a variance: both take the same sums."""
        op = self.lets[ref].op
        if self._simple(ref) or not isinstance(op, Pool) or op.statistic not in TWINS:
            return []
        other = replace(op, statistic=TWINS[op.statistic])
        return [r for r in ready if self.lets[r].op == other]

    def _needs(self, ref: Ref, left: Sequence[Ref], done: set[Ref]) -> bool:
        if ref in self.measured:
            return False
        return any(r in left and r not in done for r, _ in self._read(ref))

    def _elsewhere(self, ref: Ref, cluster: Sequence[Ref]) -> bool:
        """Whether a value is computed from one of a cluster at another place."""
        if ref in self.measured:
            return False
        return any(moved and r in cluster for r, moved in self._read(ref))

    def _read(self, ref: Ref, moved: bool = False) -> Iterator[tuple[Ref, bool]]:
        """What a value is computed from, and whether at another place than its own."""
        op = self.lets[ref].op
        for operand in operands(op):
            there = moved or isinstance(op, Rename)
            if operand in self.values.inlined:
                yield from self._read(operand, there)
            else:
                yield operand, there

    def _stored(self, groups: Sequence[CellGroup], kept: set[Ref]) -> set[Ref]:
        """The values that are read outside of their own loop."""
        home: dict[Ref, int] = {}
        for group in groups:
            for cluster in self.clusters[id(group)]:
                for ref in cluster:
                    home[ref] = id(cluster)
        stored = kept & set(home)
        for let in self.f.program.body:
            for ref in operands(let.op) if let.name not in self.measured else ():
                elsewhere = home.get(let.name) != home.get(ref)
                if ref in home and (elsewhere or not self._simple(let.name)):
                    stored.add(ref)
        stored |= {ref for ref in home if not self._simple(ref)}
        return stored

    # ---- statements

    def statements(self, group: CellGroup) -> list[Stmt]:
        """The loops of a group."""
        done: list[Stmt] = []
        for cluster in self.clusters[id(group)]:
            done += self._cluster(cluster, group)
        return done

    def loops(
        self, refs: Sequence[Ref], axes: Sequence[str], body: list[Stmt], group: CellGroup,
        before: Sequence[Stmt] = (),
    ) -> list[Stmt]:  # fmt: skip
        """Loops over axes around the body of some values, over the range of an island where they
        belong to one.

        What stands `before` the inner loop is the same in all of its turns.
        """
        of_rows = self.f.nest.grouped in axes
        by_group = of_rows and group.ranged and self.f.cell in self.f.nest.islands
        if of_rows and not by_group and self.values.reads_groups(refs):
            body = [self.f.group_of_row(), *body]
        for number, axis in enumerate(reversed(axes)):
            if by_group and axis == self.f.nest.grouped:
                body = self._over_groups(body, group)
            else:
                low, high = self._bounds(axis, group)
                simd = number == 0 and all(_apart(s) for s in body)
                body = [For(self.f.variables[axis], low, high, tuple(body), simd=simd)]
            if number == 0:
                body = [*before, *body]
        return body if len(body) == 1 else [cir.Block(tuple(body))]

    def _bounds(self, axis: str, group: CellGroup) -> tuple[Expr, Expr]:
        """The part of an axis that belongs to the islands at hand."""
        size, constant = self.f.size(axis), Name(self.f.axis((axis,)))
        islands = set(self.f.nest.islands)
        if group.ranged and axis in self.f.sometimes_ranged:
            r = Name("r")
            return Apply("low", (r, constant)), Apply("high", (r, constant, size))
        if group.ranged and (axis,) in self.f.loops and axis in islands:
            return Element(Name("r->lo"), constant), Element(Name("r->hi"), constant)
        return cir.Number(0), size

    def _over_groups(self, body: list[Stmt], group: CellGroup) -> list[Stmt]:
        """Loops over groups, and the rows of each."""
        cell, grouped = self.f.cell, self.f.nest.grouped
        assert cell is not None and grouped is not None
        low, high = self._bounds(grouped, group)
        first, last = self.f.rows_of(Name(self.f.variables[cell]))
        if low != cir.Number(0):
            first, last = Apply("most", (low, first)), Apply("least", (high, last))
        rows = For("place", first, last, (self.f.row_at_place(), *body))
        return [For(self.f.variables[cell], *self._bounds(cell, group), (rows,))]

    def _cluster(self, cluster: Sequence[Ref], group: CellGroup) -> list[Stmt]:
        first = self.lets[cluster[0]]
        if not self._simple(first.name):
            return self._special(cluster, group)
        at = self.values.here(first.type.axes)
        if not first.type.axes:
            return self._scalars(cluster, at)
        before, cells = self._cells(cluster, at)
        body = self._together(cluster, at, cells)
        return self.loops(cluster, first.type.axes, body, group, before)

    def _together(
        self, cluster: Sequence[Ref], at: At, cells: Mapping[Ref, Expr] = MappingProxyType({})
    ) -> list[Stmt]:
        """The values of a cluster at one place: named where others read them, and stored."""
        body: list[Stmt] = []
        local: dict[Ref, Expr] = {}
        lets = [self.lets[ref] for ref in cluster]
        inside = nested([let for let in lets if let.name not in self.measured], self.stored)
        read = self._read_in(lets)
        for ref in cluster:
            value = cells.get(ref) or self._simple_value(ref, at, local)
            if ref in inside:
                local[ref] = value
                continue
            stored = self.values.value(ref, at) if ref in self.stored else None
            if stored is not None and ref not in read:
                body.append(Set(stored, "=", value))
                continue
            body.append(Declare("const real", self.f.name(ref), value))
            local[ref] = Name(self.f.name(ref))
            if stored is not None:
                body.append(Set(stored, "=", local[ref]))
        return with_named_places(self.f, body)

    def _read_in(self, lets: Iterable[Let]) -> set[Ref]:
        """The values that some others read where they are computed."""

        def read(refs: Iterable[Ref]) -> Iterator[Ref]:
            for ref in refs:
                yield ref
                if ref in self.values.inlined:
                    yield from read(operands(self.lets[ref].op))

        return set(
            read(r for let in lets if let.name not in self.measured for r in operands(let.op))
        )

    def _scalars(self, cluster: Sequence[Ref], at: At) -> list[Stmt]:
        """Values without axes: no loop, and no names beside those of their arrays."""
        done: list[Stmt] = []
        local: dict[Ref, Expr] = {}
        for ref in cluster:
            value = self._simple_value(ref, at, local)
            if ref in self.stored:
                done.append(Set(self.values.value(ref, at), "=", value))
            else:
                done.append(Declare("const real", self.f.name(ref), value))
                local[ref] = Name(self.f.name(ref))
        return done

    def _simple_value(self, ref: Ref, at: At, local: Mapping[Ref, Expr]) -> Expr:
        if ref in self.measured:
            return self._measured(ref, at)
        if self.values.sized(ref):
            return self.values.from_sizes(ref, at)
        return self.values.applied(self.lets[ref].op, at, local)

    def _measured(self, ref: Ref, at: At, cell: Expr | None = None) -> Expr:
        """A statistic, from what the sweep accumulated."""
        number, reduction, statistic = self.measured[ref]
        alone = statistic == reduction.kind
        taken = TAKEN[reduction.row.finish] if alone else f"{statistic}_of"
        return Apply(taken, (Name(f"&a[{number}]"), cell or self._cell_of(number, reduction, at)))

    def _cell_of(self, number: int, reduction: Reduction, at: At) -> Expr:
        """The cell of a reduction, by the function of the layout."""
        places = (at[axis] for axis in reduction.cells)
        return Apply(f"cell_{number}", (Name("v"), Name(f"&a[{number}]"), *places))

    def _cells(self, cluster: Sequence[Ref], at: At) -> tuple[list[Stmt], dict[Ref, Expr]]:
        """The first cell of each reduction in an inner loop, and statistics counted from there.

        A place in the loop would be an array of its own, and keep it from being vectorized.
        """
        inner = self.lets[cluster[0]].type.axes[-1]
        before: dict[str, Stmt] = {}
        found: dict[Ref, Expr] = {}
        for ref in cluster:
            if ref in self.measured:
                number, reduction, _ = self.measured[ref]
                cells, step = f"cells_{number}", f"step_{number}"
                first, second = (
                    self._cell_of(number, reduction, {**at, inner: cir.Number(place)})
                    for place in (0, 1)
                )
                before[cells] = Declare("const int64_t", cells, first)
                before[step] = Declare("const int64_t", step, Infix("-", second, Name(cells)))
                cell = Infix("+", Name(cells), Infix("*", at[inner], Name(step)))
                found[ref] = self._measured(ref, at, cell)
        return list(before.values()), found

    def cell(self, accumulator: Expr, reduction: Reduction, at: At) -> Expr:
        """The number of a cell among those of an accumulator."""
        along = set(self.f.vector) <= set(reduction.cells)
        place = self._point(reduction, at)
        return Apply("cell_along" if along else "cell", (accumulator, place))

    def _point(self, reduction: Reduction, at: At) -> Expr:
        """The place of a cell; zero along the axes that it does not have."""
        places: list[Expr] = []
        for group in self.f.loops:
            merged = f"*{group[0]}"
            if not set(group) <= set(reduction.cells):
                places.append(cir.Number(0))
            elif len(group) > 1:
                places.append(at[merged] if merged in at else self.f.index(group, at))
            else:
                places.append(at[group[0]])
        return Apply("AT", tuple(places))

    # ---- operations that look at more than one place

    def _special(self, cluster: Sequence[Ref], group: CellGroup) -> list[Stmt]:
        let = self.lets[cluster[0]]
        op = let.op
        axes = let.type.axes
        at = self.values.here(axes)
        result = self.values.value(let.name, at)
        match op:
            case Rename(value, old, new):
                there = {**at, old: at[new]}
                read: list[Stmt] = [Set(result, "=", self.values.value(value, there))]
                return self.loops(cluster, axes, read, group)
            case Lookup(table, axis, int() as row):
                there = {**at, axis: cir.Number(row)}
                chosen: list[Stmt] = [Set(result, "=", self.values.value(table, there))]
                return self.loops(cluster, axes, chosen, group)
            case AxisMap("softmax", value, axis):
                weights: list[Stmt] = softmax(self.values, let, value, axis)
                other_axes = [a for a in axes if a != axis]
                if not other_axes:
                    return [cir.Block(tuple(weights))]
                return self.loops(cluster, other_axes, weights, group)
            case Pool() if reach_of(op) is not None:
                scan = ScanPrinter(self.values, cluster)
                worker: Expr = Name("r->worker") if group.ranged else cir.Number(0)
                lines = scan.statements(partial(self._bounds, group=group), worker)
                return self.loops(cluster, scan.outer, lines, group)
            case Pool():
                pool = PoolPrinter(self.values, cluster)
                if len(cluster) == 1 and goes_down(self.values, let, pool.axes):
                    *outer_axes, column = self.f.order(let.name)
                    down = columns(self.values, let, pool.axes, self._bounds(column, group))
                    if not outer_axes:
                        return [down]
                    return self.loops(cluster, outer_axes, [down], group)
                if not axes:
                    return [cir.Block(tuple(pool.statements()))]
                (outer,) = self.loops(cluster, axes, pool.statements(), group)
                if pool.work is not None and isinstance(outer, For):  # a product of matrices
                    return [replace(outer, work=pool.work, nest=len(axes))]
                return [outer]
            case _:
                raise AssertionError(op)


def _apart(s: Stmt) -> bool:
    """Whether a statement does in each turn of a loop what no other turn depends on, without a
    loop of its own."""
    if isinstance(s, Set):
        has_loop = isinstance(s.value, Apply) and s.value.function in ALONG.values()
        return s.operator == "=" and not has_loop
    return isinstance(s, Declare)
