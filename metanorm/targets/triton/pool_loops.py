"""Print statistics and softmax of narrow values: loops over the pools of a phase's cells.

One loop takes all statistics over the same axes that do not depend on each other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.accumulation import ACCUMULATIONS, WEIGHT, Part
from metanorm.ir.aggregation import ByIndex, Reach
from metanorm.ir.nodes import AxisMap, Count, Link, Pool, Ref
from metanorm.ir.scalar import Const, Scalar
from metanorm.nest.links import FollowedLink, followed_link
from metanorm.nest.statements import reach_of
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name, Stmt, Tuple
from metanorm.targets.triton.edges import EdgesOfCells
from metanorm.targets.triton.joining import FINISH_FUNCTIONS, identity, joined, joined_in_tile
from metanorm.targets.triton.numbers import degree_key, reach_key, width_key, width_of
from metanorm.targets.triton.scope import ROW, Scope, Sides
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    as_column,
    as_tile,
    both,
    call,
    cast,
    infix,
    minus,
    number,
    plus,
    times,
)
from metanorm.targets.triton.tile_indices import group_of_row

MOMENTS = ("weight", "mean", "squares")
KEEP_DIMS = {"keep_dims": Literal(True)}
LOWEST = call("float", Literal("-inf"))


@dataclass(frozen=True)
class Domain:
    """The elements that a pool of a cell takes: all positions along some axes, or some of them.

    With `by_group` only the rows of the cell's group count, with a `reach` only what is near the
    cell, with a `followed` link only the nodes that its edges lead to.
    """

    axes: tuple[str, ...]
    by_group: bool = False
    reach: Reach | None = None
    followed: FollowedLink | None = None


@dataclass(frozen=True)
class PoolSums:
    """One statistic, or several that share sums: the operation, the variable of each sum, and the
    resulting values by statistic."""

    op: Pool | Count
    sums: Mapping[str, Name]
    results: Mapping[str, Ref]


class PoolPrinter:
    """Prints loops over pools into the kernel of a phase."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.ctx = scope.ctx
        self.pooled: list[tuple[str, ...]] = []  # the axes of each loop

    def pools(self, refs: Sequence[Ref]) -> None:
        """Take statistics over the same axes in one loop."""
        sums_by_op: dict[object, PoolSums] = {}
        for ref in refs:
            op = self.ctx.lets[ref].op
            assert isinstance(op, (Pool, Count))
            kind = "count" if isinstance(op, Count) else op.statistic
            moments = isinstance(op, Pool) and self._moments(op, refs)
            same = replace(op, statistic="var") if moments and isinstance(op, Pool) else op
            if same not in sums_by_op:
                parts = self._parts(op, moments)
                preferred = self.scope.preferred_name(ref)
                sums = {
                    p.name: self._accumulator(f"{preferred}_{p.name}", identity(p)) for p in parts
                }
                sums_by_op[same] = PoolSums(same, sums, {})
            sums_by_op[same] = replace(
                sums_by_op[same], results={**sums_by_op[same].results, kind: ref}
            )
        domain = self.domain(refs[0])

        def collect(in_pool: Expr) -> list[Stmt]:
            return [one for each in sums_by_op.values() for one in self._added(each, in_pool)]

        self._loop(domain, collect, refs)
        for each in sums_by_op.values():
            self._finished(each, domain.axes)

    def _parts(self, op: Pool | Count, moments: bool) -> tuple[Part, ...]:
        """The parts to accumulate. The weight is left out if all elements weigh the same."""
        if isinstance(op, Count):
            return (WEIGHT,)
        row = ACCUMULATIONS["var" if moments else op.statistic]
        is_unweighted = op.where is None and op.weight is None and self._are_alike(op)
        return row.parts[-1:] if is_unweighted and row.rule != "moments" else row.parts

    def _are_alike(self, op: Pool) -> bool:
        """Whether all pools have the same number of elements."""
        return not any(isinstance(matrix, (ByIndex, Reach)) for _, matrix in op.over)

    def domain(self, ref: Ref) -> Domain:
        """The elements over which a statistic is taken."""
        op = self.ctx.lets[ref].op
        assert isinstance(op, (Pool, Count))
        axes = self.ctx.leaves(axis for axis, _ in op.over)
        by_group = any(isinstance(matrix, ByIndex) for _, matrix in op.over)
        scan = reach_of(op)
        followed = followed_link(self.ctx.program, op, axes) if isinstance(op, Pool) else None
        return Domain(axes, by_group, scan[1] if scan else None, followed)

    def softmax(self, ref: Ref, op: AxisMap) -> None:
        """Compute the softmax of values along an axis, in two loops."""
        domain = Domain((op.axis,))
        largest = self._accumulator("largest", LOWEST)

        def raised(in_pool: Expr) -> list[Stmt]:
            value = call("tl.where", in_pool, self.scope.value(op.value), LOWEST)
            return [Assign((largest,), call("tl.maximum", largest, value))]

        self._loop(domain, raised, [ref])
        self.scope.body.append(Assign((largest,), call("tl.max", largest, ZERO, **KEEP_DIMS)))
        total = self._accumulator("total")

        def added(in_pool: Expr) -> list[Stmt]:
            share = call("tl.exp", infix("-", self.scope.value(op.value), largest))
            value = call("tl.where", in_pool, share, ZERO)
            return [Assign((total,), infix("+", total, value))]

        self._loop(domain, added, [ref])
        exponential = call("tl.exp", infix("-", self.scope.value(op.value), largest))
        self._keep(ref, infix("/", exponential, _sum(total)))

    # ---- statistics

    def _moments(self, op: Pool, refs: Sequence[Ref]) -> bool:
        """Whether the variance of the same values is taken as well."""
        if op.statistic not in ("mean", "var"):
            return False
        return any(self.ctx.lets[r].op == replace(op, statistic="var") for r in refs)

    def _added(self, pool_sums: PoolSums, in_pool: Expr) -> list[Stmt]:
        """The statements that one iteration of the loop adds."""
        s, op, sums = self.scope, pool_sums.op, pool_sums.sums
        counts = in_pool if op.where is None else infix("&", in_pool, s.value(op.where))
        weight: Expr = cast(counts, "REAL")
        if op.weight is not None and not self._is_link(op.weight):
            weight_value = s.value(op.weight)
            counts = infix("&", counts, infix("!=", weight_value, ZERO))
            weight = call("tl.where", counts, weight_value, ZERO)
        added_values = {"weight": weight}
        if isinstance(op, Pool):
            value = s.value(op.value)
            if "squares" in sums:
                names = tuple(sums[part] for part in MOMENTS)
                value = call("tl.where", counts, value, ZERO)
                return [Assign(names, call("arithmetic.observed", *names, value, weight))]
            row = ACCUMULATIONS[op.statistic]
            if op.weight is not None and row.weighs and not self._is_link(op.weight):
                value = infix("*", weight, value)
            last = row.parts[-1]
            added_values[last.name] = call("tl.where", counts, value, identity(last))
            parts = {part.name: part for part in row.parts}
            return [Assign((n,), joined(parts[p], n, added_values[p])) for p, n in sums.items()]
        return [Assign((n,), infix("+", n, added_values[part])) for part, n in sums.items()]

    def _is_link(self, ref: Ref) -> bool:
        """Whether a weight is one for each edge that the loop goes along."""
        return isinstance(self.ctx.lets[ref].op, Link)

    def _finished(self, pool_sums: PoolSums, axes: tuple[str, ...]) -> None:
        """Bind the results after the loop."""
        sums = pool_sums.sums
        if "squares" in sums:
            names = tuple(sums[part] for part in MOMENTS)
            sides = (Literal(True), Literal(False))
            self.scope.body.append(Assign(names, call("arithmetic.joined", *names, *sides)))
            weight, mean, squares = names
            moments: dict[str, Expr] = {
                "mean": mean,
                "var": call("arithmetic.over", squares, weight),
            }
            for statistic, ref in pool_sums.results.items():
                self._keep(ref, moments[statistic])
            return
        ((statistic, ref),) = pool_sums.results.items()
        if statistic not in ACCUMULATIONS or len(ACCUMULATIONS[statistic].parts) == 1:
            self._keep(ref, _sum(next(iter(sums.values()))))
            return
        row = ACCUMULATIONS[statistic]
        size = as_tile(self.ctx.size(self.scope.arguments, axes))
        count = _sum(sums["weight"]) if "weight" in sums else size
        last = row.parts[-1]
        if row.rule == "add":
            total = _sum(sums[last.name])
        else:
            total = joined_in_tile(last, sums[last.name], Literal(True), Literal(False))
        self._keep(ref, call(FINISH_FUNCTIONS[row.finish], total, count))

    # ---- loops

    def _loop(
        self, domain: Domain, collect: Callable[[Expr], list[Stmt]], refs: Sequence[Ref]
    ) -> None:
        """Print a loop over the elements of a domain, `PARTS` at a time.

        `collect` gives the body from the mask of positions that count.
        """
        s, names = self.scope, self.scope.arguments.names
        axes, reach, followed = domain.axes, domain.reach, domain.followed
        if followed is not None:
            axes = tuple(axis for axis in axes if axis != followed.pooled)
        size = self.ctx.size(s.arguments, axes)
        begin: Expr = ZERO
        end = size
        if reach is not None:
            here, sides_here = s.at[axes[0]], s.sides[axes[0]]
            begin, end = self._bounds(reach, here, size)
        if followed is not None:
            edges = EdgesOfCells.begin(s, followed)
            end = times(edges.most, size)
        s.enter_loop(domain.axes)
        variable = Name(names.fresh(axes[0].lower() if len(axes) == 1 else "position"))
        start = names.fresh("offset")
        lane = plus(Name(start), as_column(call("tl.arange", ZERO, Name("PARTS"))))
        s.body.append(Assign((variable,), lane))
        remaining: Expr = variable
        for n, axis in reversed(list(enumerate(axes))):
            extent = self.ctx.size(s.arguments, (axis,))
            is_outermost = n == 0 and followed is None
            s.set_position(axis, remaining if is_outermost else infix("%", remaining, extent), ROW)
            remaining = infix("//", remaining, extent)
        in_pool = Name(names.fresh("in_pool"))
        if followed is not None:
            s.body.append(Assign((in_pool,), edges.enter(remaining)))
        else:
            s.body.append(Assign((in_pool,), infix("<", variable, size)))
            s.masks["row"] = in_pool
        counts = Name(names.fresh("counted"))
        condition = both(in_pool, s.masks.get("column"))
        if domain.by_group:
            assert self.ctx.group_axis is not None
            group, _ = group_of_row(s)
            condition = both(condition, infix("==", group, s.at[self.ctx.group_axis]))
        if reach is not None:
            condition = self._near(condition, reach, variable, here, sides_here)
        assert condition is not None
        s.body.append(Assign((counts,), condition))
        if not domain.by_group:
            self._set_group(axes, refs)
        s.masks["both"] = counts
        if followed is not None:
            edges.set_node()
        s.body.extend(collect(counts))
        s.leave_loop(start, (begin, end, Name("PARTS")))
        width = width_of(reach) if reach is not None else None
        lengths = [f"size {axis}" for axis in axes] if width is None else [width_key(width)]
        degrees = [degree_key(followed.link)] if followed is not None else []
        self.pooled.append((*lengths, *degrees))

    def _set_group(self, axes: Collection[str], refs: Sequence[Ref]) -> None:
        """Set the position along the axis of groups, if a loop over rows reads values of groups."""
        s, group_axis = self.scope, self.ctx.group_axis
        arrays = {*s.local, *getattr(s, "available", ())}
        if self.ctx.nest.grouped_axis not in axes or not self.ctx.reads_groups(refs, arrays):
            return
        assert group_axis is not None
        name = Name(s.arguments.names.fresh(group_axis.lower()))
        group, sides = group_of_row(s)
        s.body.append(Assign((name,), group))
        s.set_position(group_axis, name, sides)

    def _distance(self, distance: Scalar) -> Expr:
        """How many positions a pool reaches back or ahead."""
        if isinstance(distance, Const):
            return number(distance.value)
        return self.scope.arguments(reach_key(distance), "reach")

    def _bounds(self, reach: Reach, here: Expr, size: Expr) -> tuple[Expr, Expr]:
        """The positions that are near any cell of a tile."""
        begin: Expr = ZERO
        end = size
        if reach.back is not None:
            first = minus(call("tl.min", here), self._distance(reach.back))
            begin = call("tl.maximum", first, ZERO)
        if reach.ahead is not None:
            last = plus(call("tl.max", here), self._distance(reach.ahead))
            end = call("tl.minimum", plus(last, ONE), size)
        bounds: list[Expr] = []
        for name, value in (("begin", begin), ("end", end)):
            if value not in (ZERO, size):
                variable = Name(self.scope.arguments.names.fresh(f"{name}_near"))
                self.scope.body.append(Assign((variable,), value))
                value = variable
            bounds.append(value)
        return bounds[0], bounds[1]

    def _near(
        self, condition: Expr | None, reach: Reach, place: Expr, here: Expr, sides_here: Sides
    ) -> Expr | None:
        """Whether a position counts, and the pool of a cell reaches it."""
        s = self.scope
        if reach.back is not None:
            first = minus(here, self._distance(reach.back))
            condition = both(condition, infix(">=", place, first))
        if reach.ahead is not None:
            last = plus(here, self._distance(reach.ahead))
            condition = both(condition, infix("<=", place, last))
        if reach.within is not None:
            labels = s.arguments(f"tensor {reach.within}", reach.within)
            segment, own_segment = s.load(labels, place, ROW), s.load(labels, here, sides_here)
            condition = both(condition, infix("==", segment, own_segment))
        return condition

    def _accumulator(self, preferred: str, value: Expr = ZERO) -> Name:
        """Declare a variable with a number for each position of a tile, before a loop."""
        name = Name(self.scope.arguments.names.fresh(preferred.lower()))
        shape = Tuple((Name("PARTS"), Name("CELLS")))
        self.scope.body.append(Assign((name,), call("tl.full", shape, value, Name("REAL"))))
        return name

    def _keep(self, ref: Ref, value: Expr) -> None:
        name = Name(self.scope.arguments.names.fresh(self.scope.preferred_name(ref)))
        self.scope.body.append(Assign((name,), value))
        self.scope.bind(ref, name)


def _sum(name: Expr) -> Expr:
    return call("tl.sum", name, ZERO, **KEEP_DIMS)
