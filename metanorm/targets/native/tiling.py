"""Print the loops of a sweep: over outer axes, over tiles of rows, and over the rows of a tile."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Block, Nest
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Expr,
    For,
    Infix,
    Name,
    Number,
    Pieces,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.members import GROUPS_POINTER, end_of, first_of
from metanorm.targets.native.named_indexes import with_named, with_single_uses

ELEMENT, START, LENGTH, TILE = Name("i"), Name("start"), Name("length"), Name("TILE")
POINT = Name("at")  # where the current row starts
ZERO, ONE = Number(0), Number(1)


def varies_along(reduction: Reduction, group: AxisGroup) -> bool:
    """Whether a reduction has different cells along a loop."""
    return set(group) <= set(reduction.cells)


def tile_rows(
    nest: Nest, reductions: Sequence[Reduction], loops: Sequence[AxisGroup]
) -> tuple[AxisGroup, ...]:
    """The loops over the rows of a tile.

    They are the innermost of `loops`, outside the vector axis, along which every reduction with
    cells along rows is pooled; if there is no such reduction, those of every variance.
    """
    tiled = [r for r in reductions if varies_along(r, nest.loops[-1])]
    tiled = tiled or [r for r in reductions if r.row.rule == "moments"]
    row_loops: list[AxisGroup] = []
    for group in reversed(loops[:-1]):
        pooled = tiled and not any(varies_along(r, group) for r in tiled)
        if group == (nest.group_axis,) or not pooled:
            if row_loops:
                break
            continue
        if group == (nest.grouped_axis,):  # grouped rows are indirect, and make a tile alone
            return tuple(row_loops) or (group,)
        row_loops.insert(0, group)
    return tuple(row_loops)


def unsupported_in_c(nest: Nest) -> Iterator[str]:
    """The reasons why C alone has no kernel for a nest: statistics of one sweep pool along
    different axes, so that a mean or variance per column would end with each row; or windows need
    rows at hand that lie in groups."""
    for sweep in nest.sweeps:
        measured = [nest.reductions[number] for number in sweep.measures]
        loops = loops_of_tile(nest, sweep)
        if loops[-1:] != nest.loops[-1:] or not {s.axis for s in sweep.scans} <= _alone(loops):
            yield "windows along a part of an axis, or beside groups of single elements"
        rows = tile_rows(nest, measured, loops)
        for r in measured:
            by_row = not rows or any(varies_along(r, group) for group in rows)
            if by_row and varies_along(r, nest.loops[-1]) and len(r.row.parts) > 1:
                yield "statistics that pool crosswise"


def _alone(loops: Iterable[AxisGroup]) -> set[str]:
    """The axes that have a loop of their own."""
    return {group[0] for group in loops if len(group) == 1}


def loops_of_tile(nest: Nest, sweep: Block) -> tuple[AxisGroup, ...]:
    """The loops along which a sweep has all elements at hand that it scans, of loops in their
    order; without scans, all loops over the data.

    These are the loops along scans, and the innermost other one, of which a strip is swept.
    """
    loops = nest.loops[len(nest.extra_axes) :]
    scanned = {scan.axis for scan in sweep.scans}
    if not scanned:
        return loops
    rows_in_groups = {nest.group_axis, nest.grouped_axis}
    others = [g for g in loops if scanned.isdisjoint(g) and rows_in_groups.isdisjoint(g)]
    return tuple(g for g in loops if not scanned.isdisjoint(g) or g in others[-1:])


class Tiling:
    """How a sweep iterates over the data, or over `loops` of it.

    `at` has the position along each loop, at the first element of the current row. `rows` are the
    loops over the rows of a tile.
    """

    def __init__(
        self, context: KernelContext, reductions: Sequence[Reduction], loops: Sequence[AxisGroup]
    ) -> None:
        self.ctx = context
        self.reductions = reductions
        self.loops = loops
        self.vector = context.vector
        self.rows = tile_rows(context.nest, reductions, loops)
        self.at: dict[str, Expr] = {key_of(g): Name(context.variable(g)) for g in context.loops}
        self.at[key_of(self.vector)] = START

    def element_positions(self) -> dict[str, Expr]:
        """The positions of element `i` of the current row."""
        return {**self.at, key_of(self.vector): Infix("+", START, ELEMENT)}

    def row_point(self) -> Expr:
        """The point at which the current row starts."""
        return self._point(self.at)

    def tile_point(self) -> Expr:
        """The point at which a tile of rows along one axis starts."""
        return self._point({**self.at, **{key_of(group): Name("begin") for group in self.rows}})

    @property
    def is_grouped(self) -> bool:
        """Whether some rows are reached through their groups."""
        return any(map(self._grouped, self.loops))

    def prefetch_point(self) -> Expr | None:
        """The start of a later row, to prefetch it; `None` in tiles along several axes."""
        if len(self.rows) != 1:
            return None
        (group,) = self.rows
        rows = Apply("ahead", (LENGTH,))
        further: Expr = Infix("+", self.at[key_of(group)], rows)
        if self._grouped(group):
            further = Apply("ordered", (GROUPS_POINTER, Infix("+", Name("place"), rows)))
        positions = {**self.at, key_of(group): further}
        return self._point(positions)

    def _point(self, positions: Mapping[str, Expr]) -> Expr:
        """A point of the data, for which it does not matter where along extra axes it is."""
        extra_axes = self.ctx.nest.extra_axes
        place = (ZERO if g[0] in extra_axes else positions[key_of(g)] for g in self.ctx.loops)
        return Apply("AT", tuple(place))

    # ---- tiles

    def by_row(self, reduction: Reduction) -> bool:
        """Whether a reduction ends with each row of a tile."""
        return not self.rows or any(varies_along(reduction, group) for group in self.rows)

    def by_column(self, reduction: Reduction) -> bool:
        """Whether a reduction has a cell for each column."""
        return varies_along(reduction, self.vector)

    def extra_axes(self, reduction: Reduction) -> tuple[str, ...]:
        """The axes along which an element has several values that are measured."""
        read = (reduction.value, reduction.where, reduction.weight)
        axes = {axis for ref in read if ref is not None for axis in self.ctx.types[ref].axes}
        return tuple(axis for axis in self.ctx.nest.extra_axes if axis in axes)

    def over_extra(self, axes: Sequence[str], body: list[Stmt]) -> list[Stmt]:
        """Loops over values of an element, all of which each worker has."""
        for axis in reversed(axes):
            body = [For(self.ctx.variables[axis], ZERO, self.ctx.size(axis), tuple(body))]
        return body

    def bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        """The range of a loop that the worker goes through."""
        constant = Name(self.ctx.axis(group))
        return first_of(constant), end_of(constant)

    def outer_loops(self, body: list[Stmt]) -> list[Stmt]:
        """The loops around a tile: over outer axes, blocks of rows, and pieces of rows."""
        rows = self._tile_bounds() if self.rows else None
        pieces = Pieces(*self.bounds(self.vector), tuple(body), rows)
        return self.over(self.loops[:-1], [pieces])

    def over(self, loops: Sequence[AxisGroup], body: list[Stmt]) -> list[Stmt]:
        """Loops around a body, but for those over the rows of a tile."""
        for group in reversed(loops):
            if self._grouped(group) and group not in self.rows:
                body = [
                    For(
                        "place",
                        *self._group_bounds(group),
                        (*self._row_declarations((group,)), *body),
                    )
                ]
            elif group not in self.rows:
                body = [For(self.ctx.variable(group), *self.bounds(group), tuple(body))]
        return body

    def _grouped(self, group: tuple[str, ...]) -> bool:
        """Whether rows along this axis are reached through their groups."""
        return group == (self.ctx.nest.grouped_axis,)

    def _extent(self, group: tuple[str, ...]) -> Expr:
        low, high = self.bounds(group)
        return high if low == ZERO else Infix("-", high, low)

    def _tile_bounds(self) -> tuple[Expr, Expr]:
        """The first row and the end of the rows: of a group, or counted over all axes of rows."""
        if self._grouped(self.rows[0]):
            return self._group_bounds(self.rows[0])
        if len(self.rows) == 1:
            return self.bounds(self.rows[0])
        count: Expr = ONE
        for group in self.rows:
            count = cir.product(count, self._extent(group))
        return ZERO, count

    def _group_bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        """The range of the sorted rows of a group, clipped to the range of the worker."""
        low, high = self.bounds(group)
        assert self.ctx.group_axis is not None
        cell = self.at[self.ctx.group_axis]
        first, after = self.ctx.group_row_range(cell)
        return Apply("max", (low, first)), Apply("min", (high, after))

    def _row_declarations(self, groups: Sequence[tuple[str, ...]]) -> list[Stmt]:
        """The declarations of the row variables, from the row number `place`."""
        row_number: Expr = Name("place")
        if self._grouped(groups[0]):
            return [self.ctx.row_declaration()]
        declarations: list[Stmt] = []
        for number, group in enumerate(groups):
            position = row_number
            inner: Expr = ONE
            for inner_group in groups[number + 1 :]:
                inner = cir.product(inner, self._extent(inner_group))
            if inner != ONE:
                position = Infix("/", position, inner)
            if number:
                position = Infix("%", position, self._extent(group))
            low, _ = self.bounds(group)
            if low != ZERO:
                position = Infix("+", low, position)
            declarations.append(Declare("const int64_t", self.ctx.variable(group), position))
        return declarations

    def over_rows(self, body: list[Stmt]) -> list[Stmt]:
        """The loop over the rows of a tile."""
        body = with_named(POINT, "const int64_t *", self.row_point(), body)
        if not self.rows:
            return body
        first, last = Name("begin"), Name("end")
        if len(self.rows) == 1 and not self._grouped(self.rows[0]):
            return [For(self.ctx.variable(self.rows[0]), first, last, tuple(body))]
        return [For("place", first, last, (*self._row_declarations(self.rows), *body))]


def key_of(group: tuple[str, ...]) -> str:
    """The key of a loop in positions: its axis, or the first of several axes with a star."""
    return group[0] if len(group) == 1 else f"*{group[0]}"


def row_loop(body: Sequence[Stmt], reduced: tuple[tuple[str, str], ...] = ()) -> For:
    """The loop over the elements of a row."""
    body = with_single_uses(body, "=")  # comments name the values that are accumulated
    return For("i", ZERO, LENGTH, tuple(body), simd=True, reduced=reduced)
