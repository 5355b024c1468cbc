"""Print the reductions of a kernel: within one tile, or accumulated over a loop.

A loop has an accumulator for each position of a tile. Moments follow Chan's rule, one value at a
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from metanorm.ir.accumulation import Part
from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Let, Pool
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Expr, Name, Tuple
from metanorm.targets.triton.joining import identity, joined, joined_in_tile
from metanorm.targets.triton.reduction_results import (
    PartValues,
    ReductionResults,
    TileStatistic,
    reduced_axes,
    side_flags,
)
from metanorm.targets.triton.scope import NotInTile, Scope, Sides
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    as_column,
    as_row,
    as_tile,
    call,
    cast,
    infix,
)
from metanorm.targets.triton.tile_indices import Loop, TileIndices


@dataclass(frozen=True)
class _Accumulators:
    """The accumulators of a statistic, which have a number per position along `sides`."""

    statistic: TileStatistic
    loop: Loop
    names: tuple[Name, ...]
    sides: Sides


class StatisticsPrinter:
    """Prints the reductions of one kernel."""

    def __init__(self, scope: Scope, indices: TileIndices, outcomes: ReductionResults) -> None:
        self.scope, self.indices, self.shape = scope, indices, indices.shape
        self.ctx, self.arguments = scope.ctx, scope.arguments
        self.results = outcomes
        self._accumulators: list[_Accumulators] = []
        self._numbers = len(self.ctx.reductions)

    @property
    def tiles_in_registers(self) -> int:
        """How many accumulators are as large as a tile."""
        return sum(
            len(accumulators.names)
            for accumulators in self._accumulators
            if "column" in accumulators.sides
        )

    def take_reduction(self, r: Reduction) -> None:
        """Take a statistic of wide values."""
        self._take(r, self.ctx.measured[r.results[0][1]][0])

    def take_pool(self, let: Let) -> None:
        """Take a statistic of narrow values of an island."""
        op = let.op
        assert isinstance(op, Pool)
        if any(not isinstance(matrix, Ones) for _, matrix in op.over) or op.ddof or op.about:
            raise NotInTile("a narrow pool by groups, blocks or a given matrix")
        results = ((op.statistic, let.name),)
        r = Reduction(
            op.value, op.over, let.type.axes, op.where, op.weight, results, terminal=False
        )
        self._take(r, self._numbers)
        self._numbers += 1

    def finish_loop(self) -> None:
        """Finish the accumulators of the loop, which has just been closed."""
        for accumulators in self._accumulators:
            statistic = accumulators.statistic
            part_values = self._joined(accumulators, accumulators.sides & statistic.sides)
            self.results.finish(statistic, part_values)

    def _take(self, r: Reduction, number: int) -> None:
        varies = self.scope.sides_of(self.ctx.lets[r.value].type.axes)
        sides = varies - self.scope.sides_of(r.cells)
        loop = self.indices.loop
        over_loop = loop is not None and self._over(loop, r, sides)
        cell = self.shape.cell if "column" in varies else ()
        lanes = bool(cell) and reduced_axes(self.ctx, r) == set(cell)
        if lanes and r.row.finish == "total if weighed":
            raise NotInTile("an extreme of columns beside each other")
        statistic = TileStatistic(r, number, varies, sides, over_loop, lanes)
        if over_loop:
            self._accumulate(statistic)
        else:
            self.results.finish(statistic, self._in_one_tile(statistic))

    def _over(self, loop: Loop, r: Reduction, sides: Sides) -> bool:
        """Whether a statistic is taken over the iterations of a loop."""
        if loop.over == "islands":
            return not set(self.shape.outer_axes) & set(r.cells)
        return loop.side in sides

    # ---- within a tile

    def _counts(self, statistic: TileStatistic) -> tuple[Expr, Expr]:
        """The mask of elements that count, and the weight of each."""
        r = statistic.reduction
        counts = self.scope.mask(statistic.value_sides)
        if counts is None:
            raise NotInTile("a statistic of what is the same all over a tile")
        weight = cast(counts, "REAL")
        if r.where is not None:
            counts = infix("&", counts, self.scope.value(r.where))
            weight = cast(counts, "REAL")
        if r.weight is not None:
            weight_value = self.scope.value(r.weight)
            counts = infix("&", counts, infix("!=", weight_value, ZERO))
            weight = call("tl.where", counts, weight_value, ZERO)
        return counts, weight

    def _contributions(self, statistic: TileStatistic) -> PartValues:
        """The number that each element adds to each part."""
        r = statistic.reduction
        counts, weight = self._counts(statistic)
        value = self.scope.value(r.value)
        if r.weight is not None and r.row.weighs:
            value = infix("*", self.scope.value(r.weight), value)
        total = call("tl.where", counts, value, identity(r.row.parts[-1]))
        return tuple(weight if part.takes == "weight" else total for part in r.row.parts)

    def _in_one_tile(self, statistic: TileStatistic) -> PartValues:
        """The parts of a statistic of one tile."""
        r, arguments = statistic.reduction, statistic.side_arguments
        if statistic.in_lanes and not statistic.is_unweighted:
            raise NotInTile("a weighted statistic of columns beside each other")
        if r.row.rule != "moments":
            brought = zip(r.row.parts, self._contributions(statistic))
            part_values = tuple(joined_in_tile(part, e, *arguments) for part, e in brought)
            needs_count = len(part_values) > 1 and statistic.is_unweighted
            return (self._count(statistic), part_values[-1]) if needs_count else part_values
        counts, weight = self._counts(statistic)
        value = self.scope.value(r.value)
        if r.weight is not None:
            moments = call("arithmetic.moments", value, weight, *arguments)
        else:
            count = self._count(statistic)
            count = (
                count if statistic.is_unweighted else call("arithmetic.added", weight, *arguments)
            )
            moments = call("arithmetic.moments_alike", value, counts, count, *arguments)
        names = self._names(statistic, r.row.names)
        self.scope.body.append(Assign(names, moments))
        return names

    def _count(self, statistic: TileStatistic) -> Expr:
        """The number of elements of a tile that are pooled together."""
        if statistic.in_lanes:
            return as_tile(self.ctx.size(self.arguments, self.shape.cell))
        return as_tile(self.indices.count(statistic.sides))

    def _names(self, statistic: TileStatistic, parts: Sequence[str]) -> tuple[Name, ...]:
        fresh = self.arguments.names.fresh
        return tuple(Name(fresh(f"{part}_{statistic.number}")) for part in parts)

    # ---- over iterations of the loop

    def _accumulate(self, statistic: TileStatistic) -> None:
        """Accumulate a statistic per position of the tile."""
        r = statistic.reduction
        parts = r.row.parts
        if r.row.rule != "moments":
            names = self._declare_accumulators(statistic, parts)
            for part, name, added in zip(parts, names, self._contributions(statistic)):
                self.scope.body.append(Assign((name,), joined(part, name, added)))
            return
        counts, weight = self._counts(statistic)
        value = self.scope.value(r.value)
        if statistic.is_unweighted:  # each iteration has added one value
            names = self._declare_accumulators(statistic, parts[1:])
            assert self.indices.loop is not None
            arguments = (*names, value, counts, self.indices.loop.iteration)
            self.scope.body.append(Assign(names, call("arithmetic.observed_alike", *arguments)))
        else:
            names = self._declare_accumulators(statistic, parts)
            self.scope.body.append(
                Assign(names, call("arithmetic.observed", *names, value, weight))
            )

    def _declare_accumulators(
        self, statistic: TileStatistic, parts: Sequence[Part]
    ) -> tuple[Name, ...]:
        """Declare accumulators before the loop, with their initial values."""
        sides, loop = statistic.value_sides, self.indices.loop
        assert loop is not None
        lengths = ("ROWS" if "row" in sides else "", "BLOCK" if "column" in sides else "")
        shape = Tuple(tuple(Name(length) if length else ONE for length in lengths))
        names = self._names(statistic, [part.name for part in parts])
        for part, name in zip(parts, names):
            begin = call("tl.zeros", shape, Name("REAL"))
            if part.identity:
                begin = call("tl.full", shape, identity(part), Name("REAL"))
            self.scope.head.append(Assign((name,), begin))
        self._accumulators.append(_Accumulators(statistic, loop, names, sides))
        return names

    def _count_per_position(self, accumulators: _Accumulators) -> Name:
        """Declare how many values each position has accumulated in the closed loop."""
        loop, (weight,) = accumulators.loop, self._names(accumulators.statistic, ["weight"])
        count = loop.length
        if loop.side:
            lanes, orient = ("ROWS", as_column) if loop.side == "row" else ("BLOCK", as_row)
            count = orient(call("arithmetic.turns", count, Name(lanes)))
        count = self._inside(accumulators.sides - {loop.side}, count)
        self.scope.body.append(Assign((weight,), cast(count, "REAL")))
        return weight

    def _count_joined(self, accumulators: _Accumulators, sides: Sides) -> Expr:
        """The number of values that all positions along some sides have accumulated together.

        It is computed from lengths instead of summed up, since LLVM would take long to simplify the
        sum.
        """
        loop = accumulators.loop
        across = self.indices.count(sides - {loop.side})
        count = as_tile(loop.length if across == ONE and loop.side in sides else across)
        if across != ONE and loop.side in sides:
            count = infix("*", count, loop.length)
        return self._inside(accumulators.sides - sides, count)

    def _inside(self, sides: Sides, count: Expr) -> Expr:
        """A count, or zero for positions that are outside along some sides."""
        mask = self.scope.mask(sides)
        return count if mask is None else call("tl.where", mask, count, ZERO)

    def _joined(self, accumulators: _Accumulators, sides: Sides) -> PartValues:
        """The accumulated parts, joined along some sides of the tile."""
        names, row = accumulators.names, accumulators.statistic.reduction.row
        if row.rule != "moments":
            if not sides:
                return names
            arguments = side_flags(sides)
            return tuple(joined_in_tile(part, n, *arguments) for part, n in zip(row.parts, names))
        joined_value = call("arithmetic.joined", *names, *side_flags(sides))
        if len(names) < len(row.parts):
            weight, moments = self._count_per_position(accumulators), names
            names = (weight, *moments)
            arguments_alike = (weight, self._count_joined(accumulators, sides), *moments)
            joined_value = call("arithmetic.joined_alike", *arguments_alike, *side_flags(sides))
        if sides:
            self.scope.body.append(Assign(names, joined_value))
        return names
