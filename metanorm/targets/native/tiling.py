"""The loops of a sweep: over other axes, tiles of rows, and the rows of a tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Nest
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Number,
    Stmt,
)
from metanorm.targets.native.context import KernelContext

ELEMENT, START, LENGTH = Name("i"), Name("start"), Name("length")
ZERO, ONE = Number(0), Number(1)
GROUPS = Name("&v->shape.groups")


def varies_along(reduction: Reduction, group: AxisGroup) -> bool:
    """Whether the cells of a reduction vary along a loop."""
    return set(group) <= set(reduction.cells)


def tile_rows(nest: Nest, reductions: Sequence[Reduction]) -> tuple[AxisGroup, ...]:
    """The axes whose rows a tile holds: the innermost ones, beside the vector axis, that are
    pooled by all that has cells along rows, or else by what is measured in two looks."""
    tiled = [r for r in reductions if varies_along(r, nest.loops[-1])]
    tiled = tiled or [r for r in reductions if r.row.rule == "moments"]
    row_loops: list[AxisGroup] = []
    for group in reversed(nest.loops[:-1]):
        pooled = tiled and not any(varies_along(r, group) for r in tiled)
        if group == (nest.group_axis,) or not pooled:
            if row_loops:
                break
            continue
        if group == (nest.grouped_axis,):  # rows reached one by one, in a tile of their own
            return tuple(row_loops) or (group,)
        row_loops.insert(0, group)
    return tuple(row_loops)


def unsupported_in_c(nest: Nest) -> Iterator[str]:
    """Why C has no kernel where others may: a mean or a variance for each column that ends with
    each row, since statistics of one sweep pool along different axes."""
    for sweep in nest.sweeps:
        measured = [nest.reductions[number] for number in sweep.measures]
        rows = tile_rows(nest, measured)
        for r in measured:
            by_row = not rows or any(varies_along(r, group) for group in rows)
            if by_row and varies_along(r, nest.loops[-1]) and len(r.row.parts) > 1:
                yield "statistics that pool crosswise"


class Tiling:
    """How a sweep goes through the data. `at` has the place of each axis, at the first element of
    the row at hand; `rows` are the axes whose rows a tile holds."""

    def __init__(self, context: KernelContext, reductions: Sequence[Reduction]) -> None:
        self.ctx = context
        self.reductions = reductions
        self.vector = context.vector
        self.rows = tile_rows(context.nest, reductions)
        self.at: dict[str, Expr] = {_key(g): Name(context.variable(g)) for g in context.loops}
        self.at[_key(self.vector)] = START

    def element_positions(self) -> dict[str, Expr]:
        """The place of element `i` of the row."""
        return {**self.at, _key(self.vector): Infix("+", START, ELEMENT)}

    def row_point(self) -> Expr:
        """Where the row begins."""
        return Apply("AT", tuple(self.at[_key(group)] for group in self.ctx.loops))

    def prefetch_point(self) -> Expr | None:
        """Where a row begins that is some rows further on, in a tile of rows along one axis."""
        if len(self.rows) != 1:
            return None
        (group,) = self.rows
        rows = Apply("ahead", (LENGTH,))
        further: Expr = Infix("+", self.at[_key(group)], rows)
        if self._grouped(group):
            further = Apply("ordered", (GROUPS, Infix("+", Name("place"), rows)))
        positions = {**self.at, _key(group): further}
        return Apply("AT", tuple(positions[_key(g)] for g in self.ctx.loops))

    # ---- what tiles have

    def by_row(self, reduction: Reduction) -> bool:
        """Whether a reduction ends with each row of a tile."""
        return not self.rows or any(varies_along(reduction, group) for group in self.rows)

    def by_column(self, reduction: Reduction) -> bool:
        """Whether its cells lie along rows."""
        return varies_along(reduction, self.vector)

    def bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        """The part of an axis that the sweep is to look at."""
        constant = Name(self.ctx.axis(group))
        return Element(Name("r->lo"), constant), Element(Name("r->hi"), constant)

    def outer_loops(self, body: list[Stmt]) -> list[Stmt]:
        """The loops around a tile: other axes, blocks of rows, pieces of rows."""
        low, high = self.bounds(self.vector)
        remaining = Infix("-", high, START)
        body = [
            Declare("const int64_t", "length", Apply("least", (Name("TILE"), remaining))),
            *body,
        ]
        body = [For("start", low, high, tuple(body), step=Name("TILE"))]
        if self.rows:
            first, last = self._tile_bounds()
            span = Infix("-", high, low)
            most = Apply("most", (Apply("least", (Name("TILE"), span)), ONE))
            area = Infix("/", Name("TILE_AREA"), most)
            step = Declare("const int64_t", "rows", Apply("least", (Name("TILE_ROWS"), area)))
            end = Declare(
                "const int64_t",
                "end",
                Apply("least", (Infix("+", Name("begin"), Name("rows")), last)),
            )
            body = [step, For("begin", first, last, (end, *body), step=Name("rows"))]
        for group in reversed(self.ctx.loops[:-1]):
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
        return Infix("-", high, low)

    def _tile_bounds(self) -> tuple[Expr, Expr]:
        """First and last row: of a group, or counted through the axes of rows."""
        if self._grouped(self.rows[0]):
            return self._group_bounds(self.rows[0])
        if len(self.rows) == 1:
            return self.bounds(self.rows[0])
        count: Expr = ONE
        for group in self.rows:
            count = cir.product(count, self._extent(group))
        return ZERO, count

    def _group_bounds(self, group: tuple[str, ...]) -> tuple[Expr, Expr]:
        """The places of the rows of a group, as far as they are in the range."""
        low, high = self.bounds(group)
        assert self.ctx.group_axis is not None
        cell = self.at[self.ctx.group_axis]
        first, after = self.ctx.group_row_range(cell)
        return Apply("most", (low, first)), Apply("least", (high, after))

    def _row_declarations(self, groups: Sequence[tuple[str, ...]]) -> list[Stmt]:
        """Where a row is that is the one at `place`."""
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
            declarations.append(
                Declare("const int64_t", self.ctx.variable(group), Infix("+", low, position))
            )
        return declarations

    def over_rows(self, body: list[Stmt]) -> list[Stmt]:
        """The loop over the rows of a tile."""
        if not self.rows:
            return body
        first, last = Name("begin"), Name("end")
        if len(self.rows) == 1 and not self._grouped(self.rows[0]):
            return [For(self.ctx.variable(self.rows[0]), first, last, tuple(body))]
        return [For("place", first, last, (*self._row_declarations(self.rows), *body))]


def _key(group: tuple[str, ...]) -> str:
    """What the place of a loop is called: its axis, or the first of several leaves, starred."""
    return group[0] if len(group) == 1 else f"*{group[0]}"
