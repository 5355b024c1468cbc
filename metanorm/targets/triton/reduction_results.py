"""Print the results of reductions: values of whole islands, or parts that a later kernel joins."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from metanorm.ir.nodes import Ref
from metanorm.nest.layouts import AxisGroup
from metanorm.plan.sweeps import Reduction
from metanorm.targets.python.pyir import Assign, Expr, Literal, Name
from metanorm.targets.triton.context import KernelContext
from metanorm.targets.triton.joining import FINISH_FUNCTIONS
from metanorm.targets.triton.scope import NotInTile, Scope, Sides
from metanorm.targets.triton.steps import Keys, Parts
from metanorm.targets.triton.terms import ONE, ZERO, call, plus, times
from metanorm.targets.triton.tile_indices import TileIndices

PartValues = tuple[Expr, ...]  # the parts of a statistic


@dataclass(frozen=True)
class TileStatistic:
    """A reduction in terms of a tile.

    Its value varies along `value_sides`. It is taken along `sides`, with `over_loop` over the
    iterations of the loop, and with `in_lanes` over the lanes of each cell.
    """

    reduction: Reduction
    number: int
    value_sides: Sides
    sides: Sides
    over_loop: bool
    in_lanes: bool

    @property
    def side_arguments(self) -> tuple[Expr, ...]:
        """The arguments that tell functions of `arithmetic` which sides to reduce."""
        return (*side_flags(self.sides), *([Name("LANES")] if self.in_lanes else []))

    @property
    def is_unweighted(self) -> bool:
        """Whether every element inside the data has weight one."""
        return self.reduction.where is None and self.reduction.weight is None


class ReductionResults:
    """Prints what a kernel does with finished reductions.

    With `island`, programs have whole islands; `read_later` are values of islands that other
    kernels read.
    """

    def __init__(
        self, scope: Scope, indices: TileIndices, read_later: Collection[Ref], island: bool
    ) -> None:
        self.scope, self.indices, self.shape = scope, indices, indices.shape
        self.ctx, self.arguments = scope.ctx, scope.arguments
        self.read_later, self.island = read_later, island
        self.parts: list[Parts] = []
        self.arrays: list[tuple[str, Keys]] = []
        self.adds_up = False  # whether programs accumulate over several islands

    def finish(self, statistic: TileStatistic, part_values: PartValues) -> None:
        """Bind a statistic of whole islands to its values; store the parts of any other one."""
        if self.island and not statistic.reduction.terminal:
            self._complete(statistic, part_values)
        else:
            self._partial(statistic, part_values)

    def _complete(self, statistic: TileStatistic, part_values: PartValues) -> None:
        """Bind the results of a statistic of whole islands."""
        r = statistic.reduction
        reduced = self.shape.cell if statistic.in_lanes else self._whole(statistic.sides)
        if reduced_axes(self.ctx, r) != set(reduced):
            raise NotInTile("a statistic that is not of whole tiles, rows or columns")
        for statistic_name, ref in r.results:
            value = self._result(r, statistic_name, part_values)
            name = Name(self.arguments.names.fresh(self.scope.preferred_name(ref)))
            self.scope.body.append(Assign((name,), value))
            self.scope.bind(ref, name)
            if ref in self.read_later:
                self.store_value(ref)

    def _result(self, r: Reduction, statistic: str, part_values: PartValues) -> Expr:
        """The expression of a statistic, from its parts."""
        if statistic != r.kind:  # a part of another one, as the mean of moments is
            return part_values[r.row.names.index(statistic)]
        if r.row.finish == "total":
            return part_values[-1]
        return call(FINISH_FUNCTIONS[r.row.finish], part_values[-1], part_values[0])

    def _whole(self, sides: Sides) -> AxisGroup:
        """The axes along some sides that a tile covers completely."""
        rows = self.shape.row_axes if self.shape.down != "part" else ()
        columns = self.shape.columns if self.shape.across != "part" else ()
        return (*(rows if "row" in sides else ()), *(columns if "column" in sides else ()))

    def store_value(self, ref: Ref) -> None:
        """Store a value of islands in its array."""
        order = self.ctx.axis_order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.scope.preferred_name(ref)}_of")
        offset, sides = self.scope.offset(order), self.scope.sides_of(order)
        self.scope.body.append(self.scope.store(pointer, offset, sides, self.scope.value(ref)))
        self.arrays.append((f"value {ref}", tuple(f"size {axis}" for axis in order)))

    def _partial(self, statistic: TileStatistic, part_values: PartValues) -> None:
        """Store the parts of a statistic from this program or tile. A later kernel joins them."""
        s, r = self.scope, statistic.reduction
        pooled = self._pooled(statistic)
        part: Expr = ZERO
        sides = s.sides_of(tuple(r.cells))
        for _, size, position, counted_sides in pooled:
            part = position if part == ZERO else plus(times(part, size), position)
            sides |= counted_sides
        cells = self.ctx.size(self.arguments, r.cells) if r.cells else ONE
        offset = plus(times(part, cells), s.offset(r.cells)) if part != ZERO else s.offset(r.cells)
        keys = []
        for name, value in zip(r.row.names, part_values):
            key = f"part {statistic.number} {name}"
            keys.append(key)
            preferred = f"{s.preferred_name(r.results[0][1])}_{name.removesuffix('s')}s"
            s.body.append(s.store(self.arguments(key, preferred), offset, sides, value))
        count_keys = tuple(key for key, *_ in pooled)
        self.parts.append(Parts(tuple(keys), count_keys, tuple(f"size {a}" for a in r.cells)))

    def _pooled(self, statistic: TileStatistic) -> list[tuple[str, Expr, Expr, Sides]]:
        """The dimensions that number the parts of a statistic: the key of each length, the length,
        the position of this program or tile, and the sides along which the position varies."""
        shape, indices = self.shape, self.indices
        cells = self.ctx.nest.determined_axes(statistic.reduction.cells)
        chunk = indices.chunk if statistic.over_loop else None
        counts: list[tuple[str, Expr, Expr, Sides]] = []
        if not (shape.gathers and chunk is not None):
            counts += [self._part_count(g) for g in shape.outer if not set(g) <= cells]
        if "row" not in statistic.sides:
            counts += [self._part_count(g) for g in shape.rows if not set(g) <= cells]
        if chunk is not None:
            self.adds_up = True
            counts.append(("chunks", self.arguments("chunks"), chunk, frozenset()))
        if "column" in statistic.sides and indices.block is not None:
            counts.append(("blocks", self.arguments("blocks"), indices.block, frozenset()))
        return counts

    def _part_count(self, group: AxisGroup) -> tuple[str, Expr, Expr, Sides]:
        size = self.ctx.size(self.arguments, group)
        position = self.scope.at[group[0] if len(group) == 1 else f"*{group[0]}"]
        return f"size {'*'.join(group)}", size, position, self.scope.sides[group[0]]


def reduced_axes(context: KernelContext, r: Reduction) -> set[str]:
    """The axes that a reduction pools."""
    return set(context.lets[r.value].type.axes) - set(r.cells)


def side_flags(sides: Sides) -> tuple[Expr, Expr]:
    """Whether `sides` has rows, and whether it has columns, as arguments of `arithmetic`."""
    return Literal("row" in sides), Literal("column" in sides)
