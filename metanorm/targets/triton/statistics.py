"""Statistics of tiles: measured in one look, added up over turns of loops, and left in memory.

Sums are added up for each place of a tile, through all loops that they are taken over. Moments
follow Chan's rule: value by value in the innermost loop, then one turn after the other in those
around it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Let, Pool, Ref
from metanorm.plan.sweeps import NotPlannable, Reduction
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name, Tuple
from metanorm.targets.triton.frame import Group
from metanorm.targets.triton.places import Loop, Places
from metanorm.targets.triton.scope import Scope, Sides
from metanorm.targets.triton.steps import Keys, Parts
from metanorm.targets.triton.terms import ONE, ZERO, call, cast, infix, plus, times

PARTS = {"sum": ("total",), "mean": ("weight", "total"), "var": ("weight", "mean", "squares")}

Found = tuple[Expr, ...]  # the parts of a statistic


class NotInTile(NotPlannable):
    """Islands need more between sweeps than what a program has at hand."""


@dataclass(frozen=True)
class _Statistic:
    """A statistic of values that vary along some sides of a tile. It is taken along `sides`, and
    over the loops from `first` on; or in the `lanes` of each cell."""

    reduction: Reduction
    number: int
    varies: Sides
    sides: Sides
    first: int
    lanes: bool

    @property
    def flags(self) -> tuple[Expr, ...]:
        """What functions of `arithmetic` have to be told."""
        return (*_flags(self.sides), *([Name("LANES")] if self.lanes else []))

    @property
    def full(self) -> bool:
        """Whether all that is inside counts, and weighs one."""
        return self.reduction.where is None and self.reduction.weight is None


@dataclass(frozen=True)
class _Running:
    """What is added up in a loop, in variables that have the places of some sides."""

    statistic: _Statistic
    loop: int
    names: tuple[Name, ...]
    sides: Sides


class Statistics:
    """Writes what a kernel measures. `later` are values of `island`s, if that is what programs
    have, that something else reads afterwards."""

    def __init__(self, scope: Scope, places: Places, later: Collection[Ref], island: bool) -> None:
        self.s, self.places, self.shape = scope, places, places.shape
        self.f, self.arguments = scope.frame, scope.arguments
        self.later, self.island = later, island
        self.parts: list[Parts] = []
        self.arrays: list[tuple[str, Keys]] = []
        self.adds_up = False  # over islands or rows that are not of one island
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
        if op.statistic not in PARTS:
            raise NotInTile(f"{op.statistic} of narrow values")
        own = ((op.statistic, let.name),)
        r = Reduction(op.value, op.over, let.type.axes, op.where, op.weight, own, terminal=False)
        self._look(r, self._numbers)
        self._numbers += 1

    def left(self) -> None:
        """The innermost loop is over: what was added up in it is complete, or goes on in the
        loop around it."""
        loop = len(self.places.loops)
        for running in [own for own in self._running if own.loop == loop]:
            self._running.remove(running)
            statistic = running.statistic
            going_on = {over.side for over in self.places.loops[statistic.first :]}
            found = self._joined(running, running.sides & statistic.sides - going_on)
            if statistic.first < loop:
                self._merged(statistic, found, running.sides - (statistic.sides - going_on))
            else:
                self._finished(statistic, found)

    def _look(self, r: Reduction, number: int) -> None:
        varies = self.s.varies(self.f.lets[r.value].type.axes)
        sides = varies - self.s.varies(r.cells)
        loops = [self._over(loop, r, sides) for loop in self.places.loops]
        first = loops.index(True) if True in loops else len(loops)
        if not all(loops[first:]):
            raise NotInTile("a statistic for each place along a loop inside of another")
        cell = self.shape.cell if "column" in varies else ()
        lanes = bool(cell) and self._gone(r) == set(cell)
        statistic = _Statistic(r, number, varies, sides, first, lanes)
        if any(loops):
            self._added_up(statistic)
        else:
            self._finished(statistic, self._at_once(statistic))

    def _over(self, loop: Loop, r: Reduction, sides: Sides) -> bool:
        """Whether a statistic is taken over the turns of a loop."""
        if loop.over == "islands":
            return not set(self.shape.outer_axes) & set(r.cells)
        return loop.side in sides

    # ---- what a tile brings

    def _counts(self, statistic: _Statistic) -> tuple[Expr, Expr]:
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

    def _brought(self, statistic: _Statistic) -> Found:
        """What each element adds to a sum or a mean."""
        r = statistic.reduction
        counts, weight = self._counts(statistic)
        value = self.s.value(r.value)
        counted = value if r.weight is None else infix("*", self.s.value(r.weight), value)
        total = call("tl.where", counts, counted, ZERO)
        return (total,) if r.kind == "sum" else (weight, total)

    def _at_once(self, statistic: _Statistic) -> Found:
        """A statistic of one tile."""
        r, flags = statistic.reduction, statistic.flags
        if statistic.lanes and not statistic.full:
            raise NotInTile("a weighted statistic of columns beside each other")
        if r.kind != "var":
            brought = self._brought(statistic)
            found = tuple(call("arithmetic.added", e, *flags) for e in brought)
            count = self.places.count(statistic.sides)
            return (count, found[1]) if r.kind == "mean" and statistic.full else found
        counts, weight = self._counts(statistic)
        value = self.s.value(r.value)
        if r.weight is not None:
            taken = call("arithmetic.moments", value, weight, *flags)
        else:
            count = self.places.count(statistic.sides)
            count = count if statistic.full else call("arithmetic.added", weight, *flags)
            taken = call("arithmetic.moments_alike", value, counts, count, *flags)
        names = self._names(statistic)
        self.s.body.append(Assign(names, taken))
        return names

    def _names(self, statistic: _Statistic) -> tuple[Name, ...]:
        fresh = self.arguments.names.fresh
        kind = statistic.reduction.kind
        return tuple(Name(fresh(f"{part}_{statistic.number}")) for part in PARTS[kind])

    # ---- over the turns of loops

    def _added_up(self, statistic: _Statistic) -> None:
        """A statistic for each place of the tile: a sum is complete at the end of all loops that
        it is taken over, moments go from one to the next."""
        r = statistic.reduction
        additive = r.kind != "var"
        loop = statistic.first if additive else len(self.places.loops) - 1
        names = self._started(statistic, loop, statistic.varies)
        if additive:
            for name, more in zip(names, self._brought(statistic)):
                self.s.body.append(Assign((name,), infix("+", name, more)))
            return
        counts, weight = self._counts(statistic)
        value = self.s.value(r.value)
        observed = call("arithmetic.observed", *names, value, weight)
        if statistic.full:
            turn = self.places.loops[-1].turn
            observed = call("arithmetic.observed_alike", *names, value, counts, turn)
        self.s.body.append(Assign(names, observed))

    def _started(self, statistic: _Statistic, loop: int, sides: Sides) -> tuple[Name, ...]:
        """Variables for what is added up in a loop, which begin at zero."""
        lengths = ("ROWS" if "row" in sides else "", "BLOCK" if "column" in sides else "")
        shape = Tuple(tuple(Name(length) if length else ONE for length in lengths))
        names = self._names(statistic)
        for name in names:
            self.s.levels[loop].append(Assign((name,), call("tl.zeros", shape, Name("REAL"))))
        self._running.append(_Running(statistic, loop, names, sides))
        return names

    def _merged(self, statistic: _Statistic, found: Found, sides: Sides) -> None:
        """Moments that a loop has found are one turn of the loop around it."""
        names = self._started(statistic, len(self.places.loops) - 1, sides)
        self.s.body.append(Assign(names, call("arithmetic.merged", *names, *found)))

    def _joined(self, running: _Running, sides: Sides) -> Found:
        """What was added up, together along some sides of the tile."""
        names = running.names
        if not sides:
            return names
        if running.statistic.reduction.kind != "var":
            return tuple(call("arithmetic.added", name, *_flags(sides)) for name in names)
        self.s.body.append(Assign(names, call("arithmetic.joined", *names, *_flags(sides))))
        return names

    # ---- what becomes of them

    def _finished(self, statistic: _Statistic, found: Found) -> None:
        if self.island and not statistic.reduction.terminal:
            self._complete(statistic, found)
        else:
            self._partial(statistic, found)

    def _complete(self, statistic: _Statistic, found: Found) -> None:
        """Statistics of whole islands are values like any other."""
        r = statistic.reduction
        whole = self.shape.cell if statistic.lanes else self._whole(statistic.sides)
        if self._gone(r) != set(whole):
            raise NotInTile("a statistic that is not of whole tiles, rows or columns")
        value: Expr
        for name, ref in r.results:
            if name == "sum" or (name == "mean" and r.kind == "var"):
                value = found[-1] if name == "sum" else found[1]
            else:
                value = call("arithmetic.over", found[-1], found[0])
            own = Name(self.arguments.names.fresh(self.s.wanted(ref)))
            self.s.body.append(Assign((own,), value))
            self.s.found(ref, own)
            if ref in self.later:
                self.stored(ref)

    def _gone(self, r: Reduction) -> set[str]:
        """The axes that a statistic is taken over."""
        return set(self.f.lets[r.value].type.axes) - set(r.cells)

    def _whole(self, sides: Sides) -> Group:
        """The axes along some sides of which a program has all, in its tile or in a walk."""
        rows = self.shape.row_axes if self.shape.down != "part" else ()
        columns = self.shape.columns if self.shape.across != "part" else ()
        return (*(rows if "row" in sides else ()), *(columns if "column" in sides else ()))

    def stored(self, ref: Ref) -> None:
        """A value of islands goes to its array."""
        order = self.f.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.s.wanted(ref)}_of")
        place, sides = self.s.place(order), self.s.varies(order)
        self.s.body.append(self.s.store(pointer, place, sides, self.s.value(ref)))
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _partial(self, statistic: _Statistic, found: Found) -> None:
        """What this program or tile brings to statistics, which a later step joins."""
        s, r = self.s, statistic.reduction
        pooled = self._pooled(statistic)
        part: Expr = ZERO
        sides = s.varies(tuple(r.cells))
        for _, size, here, own in pooled:
            part = here if part == ZERO else plus(times(part, size), here)
            sides |= own
        cells = self.f.size(self.arguments, r.cells) if r.cells else ONE
        place = plus(times(part, cells), s.place(r.cells)) if part != ZERO else s.place(r.cells)
        keys = []
        for name, value in zip(PARTS[r.kind], found):
            key = f"part {statistic.number} {name}"
            keys.append(key)
            wanted = f"{s.wanted(r.results[0][1])}_{name}s"
            s.body.append(s.store(self.arguments(key, wanted), place, sides, value))
        counted = tuple(key for key, *_ in pooled)
        self.parts.append(Parts(tuple(keys), counted, tuple(f"size {a}" for a in r.cells)))

    def _pooled(self, statistic: _Statistic) -> list[tuple[str, Expr, Expr, Sides]]:
        """What tells the parts of a statistic apart: a count, its name, and which one is here."""
        shape, places, cells = self.shape, self.places, set(statistic.reduction.cells)
        chunk = places.chunk if statistic.first == 0 else None
        found: list[tuple[str, Expr, Expr, Sides]] = []
        if not (shape.gathers and chunk is not None):
            found += [self._counted(g) for g in shape.outer if not set(g) <= cells]
        if "row" not in statistic.sides:
            found += [self._counted(g) for g in shape.rows if not set(g) <= cells]
        if chunk is not None:
            self.adds_up = True
            found.append(("chunks", self.arguments("chunks"), chunk, frozenset()))
        if "column" in statistic.sides and places.block is not None:
            found.append(("blocks", self.arguments("blocks"), places.block, frozenset()))
        return found

    def _counted(self, group: Group) -> tuple[str, Expr, Expr, Sides]:
        size = self.f.size(self.arguments, group)
        here = self.s.at[group[0] if len(group) == 1 else f"*{group[0]}"]
        return f"size {'*'.join(group)}", size, here, self.s.sides[group[0]]


def _flags(sides: Sides) -> tuple[Expr, Expr]:
    """Whether there is something along rows, and along columns."""
    return Literal("row" in sides), Literal("column" in sides)
