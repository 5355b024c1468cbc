"""Statistics of tiles: measured in one look, or added up over turns of loops.

Sums are added up for each place of a tile, through all loops that they are taken over. Moments
follow Chan's rule: value by value in the innermost loop, then one turn after the other in those
around it.
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
from metanorm.targets.triton.outcomes import (
    Found,
    Outcomes,
    Statistic,
    flags,
    gone,
)
from metanorm.targets.triton.places import Loop, Places
from metanorm.targets.triton.scope import NotInTile, Scope, Sides
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    call,
    cast,
    full,
    infix,
    lying,
    upright,
)


@dataclass(frozen=True)
class _Running:
    """What is added up in a loop, in variables that have the places of some sides."""

    statistic: Statistic
    number: int  # of the loop
    loop: Loop
    names: tuple[Name, ...]
    sides: Sides


class Statistics:
    """Writes what a kernel measures."""

    def __init__(self, scope: Scope, places: Places, outcomes: Outcomes) -> None:
        self.s, self.places, self.shape = scope, places, places.shape
        self.f, self.arguments = scope.context, scope.arguments
        self.outcomes = outcomes
        self._running: list[_Running] = []
        self._numbers = len(self.f.numbered)

    @property
    def running(self) -> int:
        """How many tiles are being added up."""
        return sum(len(own.names) for own in self._running if "column" in own.sides)

    def measured(self, r: Reduction) -> None:
        """One look at wide values."""
        self._look(r, self.f.measured[r.results[0][1]][0])

    def pooled(self, let: Let) -> None:
        """A statistic of narrow values of an island."""
        op = let.op
        assert isinstance(op, Pool)
        if any(not isinstance(matrix, Ones) for _, matrix in op.over) or op.ddof or op.about:
            raise NotInTile("a narrow pool by groups, blocks or a given matrix")
        own = ((op.statistic, let.name),)
        r = Reduction(op.value, op.over, let.type.axes, op.where, op.weight, own, terminal=False)
        self._look(r, self._numbers)
        self._numbers += 1

    def left(self) -> None:
        """The innermost loop is over: what was added up in it is complete, or goes on in the
        loop around it."""
        number = len(self.places.loops)
        for running in [own for own in self._running if own.number == number]:
            self._running.remove(running)
            statistic = running.statistic
            going_on = {over.side for over in self.places.loops[statistic.first :]}
            found = self._joined(running, running.sides & statistic.sides - going_on)
            if statistic.first < number:
                self._merged(statistic, found, running.sides - (statistic.sides - going_on))
            else:
                self.outcomes.finished(statistic, found)

    def _look(self, r: Reduction, number: int) -> None:
        varies = self.s.varies(self.f.lets[r.value].type.axes)
        sides = varies - self.s.varies(r.cells)
        loops = [self._over(loop, r, sides) for loop in self.places.loops]
        first = loops.index(True) if True in loops else len(loops)
        if not all(loops[first:]):
            raise NotInTile("a statistic for each place along a loop inside of another")
        cell = self.shape.cell if "column" in varies else ()
        lanes = bool(cell) and gone(self.f, r) == set(cell)
        if lanes and r.row.finish == "total if weighed":
            raise NotInTile("an extreme of columns beside each other")
        statistic = Statistic(r, number, varies, sides, first, lanes)
        if any(loops):
            self._added_up(statistic)
        else:
            self.outcomes.finished(statistic, self._at_once(statistic))

    def _over(self, loop: Loop, r: Reduction, sides: Sides) -> bool:
        """Whether a statistic is taken over the turns of a loop."""
        if loop.over == "islands":
            return not set(self.shape.outer_axes) & set(r.cells)
        return loop.side in sides

    # ---- what a tile brings

    def _counts(self, statistic: Statistic) -> tuple[Expr, Expr]:
        """Whether an element counts at all, and what it weighs."""
        r = statistic.reduction
        counts = self.s.mask(statistic.varies)
        if counts is None:
            raise NotInTile("a statistic of what is the same all over a tile")
        weight = cast(counts, "REAL")
        if r.where is not None:
            counts = infix("&", counts, self.s.value(r.where))
            weight = cast(counts, "REAL")
        if r.weight is not None:
            own = self.s.value(r.weight)
            counts = infix("&", counts, infix("!=", own, ZERO))
            weight = call("tl.where", counts, own, ZERO)
        return counts, weight

    def _brought(self, statistic: Statistic) -> Found:
        """What each element brings to each part."""
        r = statistic.reduction
        counts, weight = self._counts(statistic)
        value = self.s.value(r.value)
        if r.weight is not None and r.row.weighs:
            value = infix("*", self.s.value(r.weight), value)
        total = call("tl.where", counts, value, identity(r.row.parts[-1]))
        return tuple(weight if part.takes == "weight" else total for part in r.row.parts)

    def _at_once(self, statistic: Statistic) -> Found:
        """A statistic of one tile."""
        r, told = statistic.reduction, statistic.told
        if statistic.lanes and not statistic.full:
            raise NotInTile("a weighted statistic of columns beside each other")
        if r.row.rule != "moments":
            brought = zip(r.row.parts, self._brought(statistic))
            found = tuple(joined_in_tile(part, e, *told) for part, e in brought)
            counted = len(found) > 1 and statistic.full
            return (self._count(statistic), found[-1]) if counted else found
        counts, weight = self._counts(statistic)
        value = self.s.value(r.value)
        if r.weight is not None:
            taken = call("arithmetic.moments", value, weight, *told)
        else:
            count = self._count(statistic)
            count = count if statistic.full else call("arithmetic.added", weight, *told)
            taken = call("arithmetic.moments_alike", value, counts, count, *told)
        names = self._names(statistic, r.row.names)
        self.s.body.append(Assign(names, taken))
        return names

    def _count(self, statistic: Statistic) -> Expr:
        """How many elements of a tile are pooled together."""
        if statistic.lanes:
            return full(self.f.size(self.arguments, self.shape.cell))
        return full(self.places.count(statistic.sides))

    def _names(self, statistic: Statistic, parts: Sequence[str]) -> tuple[Name, ...]:
        fresh = self.arguments.names.fresh
        return tuple(Name(fresh(f"{part}_{statistic.number}")) for part in parts)

    # ---- over the turns of loops

    def _added_up(self, statistic: Statistic) -> None:
        """A statistic for each place of the tile: a sum is complete at the end of all loops that
        it is taken over, moments go from one to the next."""
        r = statistic.reduction
        parts = r.row.parts
        if r.row.rule != "moments":
            names = self._started(statistic, statistic.first, parts, statistic.varies)
            for part, name, more in zip(parts, names, self._brought(statistic)):
                self.s.body.append(Assign((name,), joined(part, name, more)))
            return
        counts, weight = self._counts(statistic)
        value, loop = self.s.value(r.value), len(self.places.loops) - 1
        if statistic.full:  # as many values as there were turns
            names = self._started(statistic, loop, parts[1:], statistic.varies)
            given = (*names, value, counts, self.places.loops[-1].turn)
            self.s.body.append(Assign(names, call("arithmetic.observed_alike", *given)))
        else:
            names = self._started(statistic, loop, parts, statistic.varies)
            self.s.body.append(Assign(names, call("arithmetic.observed", *names, value, weight)))

    def _started(
        self, statistic: Statistic, number: int, parts: Sequence[Part], sides: Sides
    ) -> tuple[Name, ...]:
        """Variables for what is joined in a loop, which begin with nothing."""
        lengths = ("ROWS" if "row" in sides else "", "BLOCK" if "column" in sides else "")
        shape = Tuple(tuple(Name(length) if length else ONE for length in lengths))
        names = self._names(statistic, [part.name for part in parts])
        for part, name in zip(parts, names):
            begin = call("tl.zeros", shape, Name("REAL"))
            if part.identity:
                begin = call("tl.full", shape, identity(part), Name("REAL"))
            self.s.levels[number].append(Assign((name,), begin))
        loop = self.places.loops[number]
        self._running.append(_Running(statistic, number, loop, names, sides))
        return names

    def _met(self, running: _Running) -> Name:
        """How many values each place has met in the loop that is over."""
        loop, (weight,) = running.loop, self._names(running.statistic, ["weight"])
        count = loop.length
        if loop.side:
            lanes, along = ("ROWS", upright) if loop.side == "row" else ("BLOCK", lying)
            count = along(call("arithmetic.turns", count, Name(lanes)))
        count = self._inside(running.sides - {loop.side}, count)
        self.s.body.append(Assign((weight,), cast(count, "REAL")))
        return weight

    def _all_met(self, running: _Running, sides: Sides) -> Expr:
        """How many values all places along some sides have met together. It is not added up: LLVM
        takes long to find out what it knows beforehand."""
        loop = running.loop
        across = self.places.count(sides - {loop.side})
        count = full(loop.length if across == ONE and loop.side in sides else across)
        if across != ONE and loop.side in sides:
            count = infix("*", count, loop.length)
        return self._inside(running.sides - sides, count)

    def _inside(self, sides: Sides, count: Expr) -> Expr:
        """A count, or zero for places that lie outside along some sides."""
        mask = self.s.mask(sides)
        return count if mask is None else call("tl.where", mask, count, ZERO)

    def _merged(self, statistic: Statistic, found: Found, sides: Sides) -> None:
        """Moments that a loop has found are one turn of the loop around it."""
        parts = statistic.reduction.row.parts
        names = self._started(statistic, len(self.places.loops) - 1, parts, sides)
        self.s.body.append(Assign(names, call("arithmetic.merged", *names, *found)))

    def _joined(self, running: _Running, sides: Sides) -> Found:
        """What was added up, together along some sides of the tile."""
        names, row = running.names, running.statistic.reduction.row
        if row.rule != "moments":
            if not sides:
                return names
            told = flags(sides)
            return tuple(joined_in_tile(part, n, *told) for part, n in zip(row.parts, names))
        together = call("arithmetic.joined", *names, *flags(sides))
        if len(names) < len(row.parts):
            weight, moments = self._met(running), names
            names = (weight, *moments)
            given = (weight, self._all_met(running, sides), *moments)
            together = call("arithmetic.joined_alike", *given, *flags(sides))
        if sides:
            self.s.body.append(Assign(names, together))
        return names
