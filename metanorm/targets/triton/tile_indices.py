"""Print the index computation of a kernel: the position of a program along each axis, the rows and
columns of its tiles, and the loops over them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from metanorm.nest.layouts import AxisGroup
from metanorm.targets.python.pyir import Assign, Expr, IfElse, Name, Tuple
from metanorm.targets.triton.scope import COLUMN, ROW, Scope, Sides
from metanorm.targets.triton.shapes import TileShape
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    as_column,
    as_row,
    as_tile,
    both,
    call,
    cast,
    infix,
    is_not_none,
    plus,
    times,
)


@dataclass(frozen=True)
class Loop:
    """A loop over islands, or over tiles along rows."""

    over: Literal["islands", "rows"]
    variable: str
    begin: Expr
    end: Expr
    step: Expr

    @property
    def side(self) -> str:
        """The side of a tile that the loop extends."""
        return "row" if self.over == "rows" else ""

    @property
    def length(self) -> Expr:
        """How many islands or rows there are."""
        return self.end if self.begin == ZERO else infix("-", self.end, self.begin)

    @property
    def iteration(self) -> Expr:
        """The number of the current iteration, counted from one."""
        variable: Expr = Name(self.variable)
        passed = variable if self.begin == ZERO else infix("-", variable, self.begin)
        return as_tile(plus(passed if self.step == ONE else infix("//", passed, self.step), ONE))


def group_of_row(scope: Scope) -> tuple[Expr, Sides]:
    """The group of the current row, and the sides of the tile along which it varies."""
    grouped = scope.ctx.nest.grouped_axis
    assert grouped is not None
    sides, row = scope.sides[grouped], scope.at[grouped]
    index = scope.arguments("index")
    loaded = cast(scope.load(index, row, sides), "INDEX")
    return IfElse(is_not_none(index), loaded, infix("*", row, ZERO)), sides


class TileIndices:
    """Prints the index computation of a tile shape into a scope.

    `block` is the number of a program's block of columns and `chunk` that of its chunk of rows or
    islands; `None` where the program has all. `loop` is the loop of the program while it is open.
    """

    def __init__(self, scope: Scope, shape: TileShape) -> None:
        self.scope, self.shape = scope, shape
        self.ctx, self.arguments = scope.ctx, scope.arguments
        self.names: dict[AxisGroup, Name] = {}
        self.loop: Loop | None = None
        self.block: Expr | None = None
        self.chunk: Expr | None = None
        program: Expr = self._named("program", cast(call("tl.program_id", ZERO), "INDEX"))
        if shape.across == "part":
            blocks = self.arguments("blocks")
            self.block = self._named("block", infix("%", program, blocks))
            program = infix("//", program, blocks)
        self._columns()
        if shape.down == "whole":
            self._rows()
        self._outer(program)
        if shape.grouped:
            self._bounds_of_group()
        if shape.has_row_chunks:
            self._rows()

    def leave_loop(self) -> None:
        """Close the loop."""
        loop, self.loop = self.loop, None
        assert loop is not None
        step = () if loop.step == ONE else (loop.step,)
        self.scope.leave_loop(loop.variable, (loop.begin, loop.end, *step))

    def count(self, sides: Sides) -> Expr:
        """The number of elements of a tile along some sides."""
        count: Expr = ONE
        if "row" in sides:
            count = self.ctx.size(self.arguments, self.shape.row_axes)
        if "column" in sides:
            length = self.ctx.size(self.arguments, self.shape.columns)
            if self.block is not None:
                remaining = infix("-", length, times(self.block, Name("BLOCK")))
                length = call("tl.minimum", remaining, Name("BLOCK"))
            count = times(count, length)
        return count

    # ---- the program

    def _outer(self, remaining: Expr) -> None:
        """Set the positions along the outer axes, in a loop if a program has several islands."""
        shape = self.shape
        if shape.has_row_chunks:
            chunks = self.arguments("chunks")
            self.chunk = self._named(
                "chunk", infix("%", remaining, chunks) if shape.outer else remaining
            )
            remaining = infix("//", remaining, chunks)
        elif shape.gathers:
            self.chunk = self._named("chunk", remaining)
            total = self.ctx.size(self.arguments, shape.outer_axes)
            self._chunk("islands", "island", total, ONE)
            remaining = Name("island")
        self._axis_positions(shape.outer, remaining, frozenset())

    def _chunk(
        self, over: Literal["islands", "rows"], variable: str, total: Expr, step: Expr
    ) -> None:
        """The loop over a chunk of islands or rows."""
        length = self.arguments(f"{over} of a chunk")
        begin = self._named("begin", times(Name("chunk"), length))
        end = self._named("end", call("tl.minimum", plus(begin, length), total))
        self._enter(Loop(over, variable, begin, end, step))

    def _enter(self, loop: Loop) -> None:
        self.loop = loop
        self.scope.enter_loop()

    def _axis_positions(self, groups: tuple[AxisGroup, ...], number: Expr, sides: Sides) -> None:
        """Set the positions along some axes, from a flat index over all of them."""
        for n, group in reversed(list(enumerate(groups))):
            size = self.ctx.size(self.arguments, group)
            self._axis(group, infix("%", number, size) if n else number, sides)
            number = infix("//", number, size)

    def _axis(self, group: AxisGroup, position: Expr, sides: Sides) -> Name:
        """Assign the position along an axis to a variable, and set the positions of its parts."""
        if group not in self.names:
            preferred = "_".join(group) if len(group) == 1 else self.ctx.dim_of(group[0])
            self.names[group] = Name(self.arguments.names.fresh(preferred.lower()))
        variable = self._named(self.names[group].text, position)
        if len(group) == 1:
            self.scope.set_position(group[0], variable, sides)
            return variable
        self.scope.set_position(f"*{group[0]}", variable, sides)
        remaining: Expr = variable
        for n, leaf in reversed(list(enumerate(group))):
            size = self.ctx.size(self.arguments, (leaf,))
            self.scope.set_position(leaf, infix("%", remaining, size) if n else remaining, sides)
            remaining = infix("//", remaining, size)
        return variable

    def _named(self, name: str, value: Expr) -> Name:
        self.scope.body.append(Assign((Name(name),), value))
        return Name(name)

    # ---- its columns and rows

    def _columns(self) -> None:
        if self.shape.cell:
            self._cells_of_columns()
            return
        size = self.ctx.size(self.arguments, self.shape.columns)
        lane = cast(as_row(call("tl.arange", ZERO, Name("BLOCK"))), "INDEX")
        if self.block is not None:
            lane = plus(times(self.block, Name("BLOCK")), lane)
        variable = self._axis(self.shape.columns, lane, COLUMN)
        self.scope.masks["column"] = self._named("in_columns", infix("<", variable, size))
        self._inside()

    def _cells_of_columns(self) -> None:
        """Set the columns of whole cells. Each cell has `LANES` lanes, a power of two."""
        shape = self.shape
        assert self.block is not None
        outer = shape.columns[: -len(shape.cell)]
        lane = cast(as_row(call("tl.arange", ZERO, Name("BLOCK"))), "INDEX")
        lanes = Name("LANES")
        first = times(self.block, infix("//", Name("BLOCK"), lanes))
        cell = self._axis(outer, plus(first, infix("//", lane, lanes)), COLUMN)
        member = self._axis(shape.cell, infix("%", lane, lanes), COLUMN)
        sizes = [self.ctx.size(self.arguments, axes) for axes in (outer, shape.cell)]
        preferred = self.ctx.dim_of(shape.columns[0]).lower()
        name = self.arguments.names.fresh(preferred)
        column = self._named(name, plus(times(cell, sizes[1]), member))
        self.scope.set_position(f"*{shape.columns[0]}", column, COLUMN)
        in_columns = infix("&", infix("<", cell, sizes[0]), infix("<", member, sizes[1]))
        self.scope.masks["column"] = self._named("in_columns", in_columns)

    def _rows(self) -> None:
        """Set the rows of the tile, in a loop if there may be more rows than a tile has."""
        s, shape = self.scope, self.shape
        if not shape.rows:
            return
        end = self.ctx.size(self.arguments, shape.row_axes)
        lane: Expr = cast(as_column(call("tl.arange", ZERO, Name("ROWS"))), "INDEX")
        if shape.grouped:
            end = Name("end")
            self._enter(Loop("rows", "first", Name("begin"), end, Name("ROWS")))
        elif shape.has_row_chunks:
            self._chunk("rows", "first", end, Name("ROWS"))
            end = Name("end")
        if shape.down != "whole":
            lane = plus(Name("first"), lane)
        if shape.grouped:
            row = self._named("place", lane)
        elif len(shape.rows) == 1:
            row = self._axis(shape.rows[0], lane, ROW)
        else:
            row = self._named("row", lane)
            self._axis_positions(shape.rows, row, ROW)
        s.masks["row"] = self._named("in_rows", infix("<", row, end))
        if shape.grouped:
            self._through_order(row)
        elif self.ctx.group_axis is not None:
            self._group_of_row()
        self._inside()

    def _bounds_of_group(self) -> None:
        """Load the bounds of a group's rows, and compute those of the program's chunk of them."""
        s, cell = self.scope, self.ctx.group_axis
        assert cell is not None
        starts = self.arguments("starts")
        start = call("tl.load", plus(starts, s.at[cell]))
        stop = call("tl.load", plus(plus(starts, s.at[cell]), ONE))
        s.body.append(Assign((Name("start"), Name("stop")), Tuple((start, stop), True)))
        rows = infix("-", Name("stop"), Name("start"))
        length = self._named("length", call("tl.cdiv", rows, self.arguments("chunks")))
        first = plus(Name("start"), times(Name("chunk"), length))
        begin = self._named("begin", call("tl.minimum", first, Name("stop")))
        self._named("end", call("tl.minimum", plus(begin, length), Name("stop")))

    def _through_order(self, index: Expr) -> None:
        """Set the rows of a group, through the sorting order if rows are not sorted already."""
        order = self.arguments("order")
        loaded = call("tl.load", plus(order, index), Name("in_rows"), ZERO)
        self._axis(self.shape.rows[0], IfElse(is_not_none(order), loaded, index), ROW)

    def _group_of_row(self) -> None:
        """Set the position along the axis of groups, from the row."""
        cell = self.ctx.group_axis
        assert cell is not None
        self._axis((cell,), *group_of_row(self.scope))

    def _inside(self) -> None:
        """Combine the masks of rows and columns."""
        masks = self.scope.masks
        masks.pop("both", None)
        mask = both(masks.get("row"), masks.get("column"))
        if mask is not None and len(masks) == 2:
            masks["both"] = self._named("inside", mask)
