"""What becomes of statistics: values of islands, or parts in memory that a later kernel joins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from metanorm.ir.nodes import Ref
from metanorm.nest.layouts import Group
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.places import Places
from metanorm.targets.triton.scope import NotInTile, Scope, Sides
from metanorm.targets.triton.steps import Keys, Parts
from metanorm.targets.triton.terms import ONE, ZERO, call, plus, times

Found = tuple[Expr, ...]  # the parts of a statistic


@dataclass(frozen=True)
class Statistic:
    """A statistic of values that vary along some sides of a tile. It is taken along `sides`, and
    over the loops from `first` on; or in the `lanes` of each cell."""

    reduction: Reduction
    number: int
    varies: Sides
    sides: Sides
    first: int
    lanes: bool

    @property
    def told(self) -> tuple[Expr, ...]:
        """What functions of `arithmetic` have to be told."""
        return (*flags(self.sides), *([Name("LANES")] if self.lanes else []))

    @property
    def full(self) -> bool:
        """Whether all that is inside counts, and weighs one."""
        return self.reduction.where is None and self.reduction.weight is None


class Outcomes:
    """Writes what is done with a statistic. `later` are values of `island`s, if that is what
    programs have, that something else reads afterwards."""

    def __init__(self, scope: Scope, places: Places, later: Collection[Ref], island: bool) -> None:
        self.s, self.places, self.shape = scope, places, places.shape
        self.f, self.arguments = scope.context, scope.arguments
        self.later, self.island = later, island
        self.parts: list[Parts] = []
        self.arrays: list[tuple[str, Keys]] = []
        self.adds_up = False  # over islands or rows that are not of one island

    def finished(self, statistic: Statistic, found: Found) -> None:
        """A statistic of whole islands is a value like any other, others leave parts."""
        if self.island and not statistic.reduction.terminal:
            self._complete(statistic, found)
        else:
            self._partial(statistic, found)

    def _complete(self, statistic: Statistic, found: Found) -> None:
        """Statistics of whole islands are values like any other."""
        r = statistic.reduction
        whole = self.shape.cell if statistic.lanes else self._whole(statistic.sides)
        if gone(self.f, r) != set(whole):
            raise NotInTile("a statistic that is not of whole tiles, rows or columns")
        for name, ref in r.results:
            value = self._result(r, name, found)
            own = Name(self.arguments.names.fresh(self.s.wanted(ref)))
            self.s.body.append(Assign((own,), value))
            self.s.found(ref, own)
            if ref in self.later:
                self.stored(ref)

    def _result(self, r: Reduction, statistic: str, found: Found) -> Expr:
        """What a statistic is, from its parts."""
        if statistic != r.kind:  # a part of another one, as the mean of moments is
            return found[r.row.names.index(statistic)]
        if r.row.finish == "total":
            return found[-1]
        how = {"total over weight": "over", "total if weighed": "if_weighed"}[r.row.finish]
        return call(f"arithmetic.{how}", found[-1], found[0])

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

    def _partial(self, statistic: Statistic, found: Found) -> None:
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
        for name, value in zip(r.row.names, found):
            key = f"part {statistic.number} {name}"
            keys.append(key)
            wanted = f"{s.wanted(r.results[0][1])}_{name.removesuffix('s')}s"
            s.body.append(s.store(self.arguments(key, wanted), place, sides, value))
        counted = tuple(key for key, *_ in pooled)
        self.parts.append(Parts(tuple(keys), counted, tuple(f"size {a}" for a in r.cells)))

    def _pooled(self, statistic: Statistic) -> list[tuple[str, Expr, Expr, Sides]]:
        """What tells the parts of a statistic apart: a count, its name, and which one is here."""
        shape, places = self.shape, self.places
        cells = self.f.nest.at_hand(statistic.reduction.cells)
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


def gone(context: KernelContext, r: Reduction) -> set[str]:
    """The axes that a statistic is taken over."""
    return set(context.lets[r.value].type.axes) - set(r.cells)


def flags(sides: Sides) -> tuple[Expr, Expr]:
    """Whether there is something along rows, and along columns."""
    return Literal("row" in sides), Literal("column" in sides)
