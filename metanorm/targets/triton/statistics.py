"""Statistics of tiles: measured in one look, added up over turns of loops, and left in memory.

Sums are added up for each place of a tile, moments by Chan's rule; along the sides of the tile
they are joined when the loop is over.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from metanorm.ir.nodes import Ref
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name, Tuple
from metanorm.targets.triton.frame import Group
from metanorm.targets.triton.places import Places
from metanorm.targets.triton.scope import Scope, Sides
from metanorm.targets.triton.steps import Keys, Parts
from metanorm.targets.triton.terms import ONE, ZERO, call, cast, infix, plus, times

PARTS = {"sum": ("total",), "mean": ("weight", "total"), "var": ("weight", "mean", "squares")}

Found = Mapping[str, Expr]  # the parts of a statistic


class NotInTile(Exception):
    """Islands need more between sweeps than what a program has at hand."""


@dataclass(frozen=True)
class _Running:
    """A statistic that is added up in the loop over rows."""

    reduction: Reduction
    number: int
    parts: Found


class Statistics:
    """Writes what a kernel measures. `later` are statistics of `island`s, if that is what
    programs have, that something else reads afterwards."""

    def __init__(self, scope: Scope, places: Places, later: Collection[Ref], island: bool) -> None:
        self.s, self.places, self.shape = scope, places, places.shape
        self.f, self.arguments = scope.frame, scope.arguments
        self.later, self.island = later, island
        self.parts: list[Parts] = []
        self.arrays: list[tuple[str, Keys]] = []
        self.adds_up = False
        self._running: list[_Running] = []

    def measured(self, r: Reduction) -> None:
        """One look at the values of a tile."""
        number = self.f.measured[r.results[0][1]][0]
        counts, weight = self._weighed(r)
        value = self.s.value(r.value)
        rows, columns = self._sides(r)
        if rows and self.shape.turns:
            running = self._added_up(r, number, value, counts, weight)
            self._running.append(_Running(r, number, running))
            return
        flags = Literal(rows), Literal(columns)
        alike = r.where is None and r.weight is None
        found: Found
        if r.kind == "var":
            names = self._names(r, number)
            taken = call("arithmetic.moments", value, weight, *flags)
            if alike:
                count = self.places.count(rows, columns)
                taken = call("arithmetic.moments_alike", value, counts, count, *flags)
            self.s.body.append(Assign(names, taken))
            found = dict(zip(PARTS["var"], names))
        else:
            found = self._joined(r, self._brought(r, value, counts, weight))
            if r.kind == "mean" and alike:
                found = {**found, "weight": self.places.count(rows, columns)}
        self._finished(r, number, found)

    def left(self) -> None:
        """The loop over rows is over: what was added up in it is complete."""
        for running in self._running:
            r, parts = running.reduction, running.parts
            found = self._joined(r, parts)
            if r.kind == "var":
                names = tuple(parts.values())
                self.s.body.append(Assign(names, found["all"]))
                found = parts
            self._finished(r, running.number, found)
        self._running.clear()

    def _sides(self, r: Reduction) -> tuple[bool, bool]:
        """Whether a statistic is taken along rows, and along columns."""
        rows = bool(self.shape.rows) and not self.shape.by_row(r)
        return rows, not self.shape.by_column(r)

    def _names(self, r: Reduction, number: int) -> tuple[Name, ...]:
        fresh = self.arguments.names.fresh
        return tuple(Name(fresh(f"{part}_{number}")) for part in PARTS[r.kind])

    # ---- what an element brings

    def _weighed(self, r: Reduction) -> tuple[Expr, Expr]:
        """Whether an element counts at all, and what it weighs."""
        counts, weight = self.places.inside, cast(self.places.inside, "REAL")
        if r.where is not None:
            counts = infix("&", counts, self.s.value(r.where))
            weight = cast(counts, "REAL")
        if r.weight is not None:
            own = self.s.value(r.weight)
            counts = infix("&", counts, infix("!=", own, ZERO))
            weight = call("tl.where", counts, own, ZERO)
        return counts, weight

    def _brought(self, r: Reduction, value: Expr, counts: Expr, weight: Expr) -> Found:
        """What is added to a sum or a mean."""
        counted = value if r.weight is None else infix("*", self.s.value(r.weight), value)
        total = call("tl.where", counts, counted, ZERO)
        return {"total": total} if r.kind == "sum" else {"weight": weight, "total": total}

    # ---- over the turns of the loop

    def _added_up(
        self, r: Reduction, number: int, value: Expr, counts: Expr, weight: Expr
    ) -> Found:
        """A statistic for each place of the tile."""
        self.adds_up = True
        names = self._names(r, number)
        shape = Tuple((Name("ROWS"), Name("BLOCK")))
        for name in names:
            self.s.head.append(Assign((name,), call("tl.zeros", shape, Name("REAL"))))
        if r.kind != "var":
            brought = self._brought(r, value, counts, weight)
            for name, more in zip(names, brought.values()):
                self.s.body.append(Assign((name,), infix("+", name, more)))
        elif r.where is None and r.weight is None:
            given = (*names, value, counts, self.places.turn())
            self.s.body.append(Assign(names, call("arithmetic.observed_alike", *given)))
        else:
            self.s.body.append(Assign(names, call("arithmetic.observed", *names, value, weight)))
        return dict(zip(PARTS[r.kind], names))

    def _joined(self, r: Reduction, parts: Found) -> Found:
        """The parts of places together, along the sides of the tile that are pooled."""
        sides = self._sides(r)
        flags = tuple(Literal(side) for side in sides)
        if r.kind == "var":
            return {"all": call("arithmetic.joined", *parts.values(), *flags)}
        if not any(sides):
            return parts
        return {part: call("arithmetic.added", e, *flags) for part, e in parts.items()}

    # ---- what becomes of them

    def _finished(self, r: Reduction, number: int, found: Found) -> None:
        if self.island and not r.terminal:
            self._complete(r, found)
        else:
            self._partial(r, number, found)

    def _complete(self, r: Reduction, found: Found) -> None:
        """Statistics of whole islands are values like any other."""
        apart = self.shape.by_row(r) and any(not set(g) <= set(r.cells) for g in self.shape.rows)
        if apart or (self._sides(r)[0] and self.shape.turns):
            raise NotInTile("a statistic that is not of whole tiles or rows")
        for statistic, ref in r.results:
            if statistic == "sum":
                value = found["total"]
            elif statistic == "var":
                value = call("arithmetic.over", found["squares"], found["weight"])
            elif r.kind == "var":
                value = found["mean"]
            else:
                value = call("arithmetic.over", found["total"], found["weight"])
            name = Name(self.arguments.names.fresh(self.s.wanted(ref)))
            self.s.body.append(Assign((name,), value))
            self.s.known(ref, name)
            if ref in self.later:
                self._stored(ref, name)

    def _stored(self, ref: Ref, value: Expr) -> None:
        order = self.f.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.s.wanted(ref)}_of")
        place, sides = self.s.place(order), self.s.varies(order)
        self.s.body.append(self.s.store(pointer, place, sides, value))
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _partial(self, r: Reduction, number: int, found: Found) -> None:
        """What this tile brings to statistics, which a later step joins."""
        s = self.s
        pooled = self._pooled(r)
        part: Expr = ZERO
        sides = s.varies(tuple(r.cells))
        for _, size, here, own in pooled:
            part = here if part == ZERO else plus(times(part, size), here)
            sides |= own
        cells = self.f.size(self.arguments, r.cells) if r.cells else ONE
        place = plus(times(part, cells), s.place(r.cells)) if part != ZERO else s.place(r.cells)
        keys = []
        for name in PARTS[r.kind]:
            key = f"part {number} {name}"
            keys.append(key)
            wanted = f"{s.wanted(r.results[0][1])}_{name}s"
            s.body.append(s.store(self.arguments(key, wanted), place, sides, found[name]))
        counted = tuple(key for key, *_ in pooled)
        self.parts.append(Parts(tuple(keys), counted, tuple(f"size {a}" for a in r.cells)))

    def _pooled(self, r: Reduction) -> list[tuple[str, Expr, Expr, Sides]]:
        """What tells the parts of a statistic apart: a count, its name, and which one is here."""
        shape, places = self.shape, self.places
        found = [self._counted(g) for g in shape.outer if not set(g) <= set(r.cells)]
        if shape.by_row(r):
            found += [self._counted(g) for g in shape.rows if not set(g) <= set(r.cells)]
        elif places.chunk is not None:
            found.append(("chunks", self.arguments("chunks"), places.chunk, frozenset()))
        if not shape.by_column(r) and places.block is not None:
            found.append(("blocks", self.arguments("blocks"), places.block, frozenset()))
        return found

    def _counted(self, group: Group) -> tuple[str, Expr, Expr, Sides]:
        size = self.f.size(self.arguments, group)
        here = self.s.at[group[0] if len(group) == 1 else f"*{group[0]}"]
        return f"size {'*'.join(group)}", size, here, self.s.sides[group[0]]
