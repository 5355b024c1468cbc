"""Where the tiles of a kernel lie: the place of a program along each axis, rows and columns."""

from __future__ import annotations

from metanorm.targets.python.pyir import Assign, Expr, IfElse, Name, Stmt, Tuple
from metanorm.targets.triton.frame import Group
from metanorm.targets.triton.scope import COLUMN, ROW, Scope, Sides
from metanorm.targets.triton.shapes import Shape
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    both,
    call,
    cast,
    full,
    infix,
    is_given,
    lying,
    plus,
    times,
    upright,
)


class Places:
    """Writes the places of a shape into a scope.

    `block` and `chunk` say which columns and which rows a program has, where it has not all.
    """

    def __init__(self, scope: Scope, shape: Shape) -> None:
        self.s, self.shape = scope, shape
        self.f, self.arguments = scope.frame, scope.arguments
        self.block: Expr | None = None
        self.chunk: Expr | None = None
        self._program()
        self._columns()
        if shape.grouped:
            self._rows_of_group()
        elif shape.rows:
            self._rows()
        if self.f.cell is not None and not shape.grouped:
            self._group_of_row()
        self.inside = self._inside()

    def leave(self) -> None:
        """The end of the loop over rows, if there is one."""
        if self.shape.turns:
            self.s.leave((Name("begin"), Name("end"), Name("ROWS")))

    def count(self, rows: bool, columns: bool) -> Expr:
        """How many elements of a tile lie in a pool along rows, columns or both."""
        count: Expr = ONE
        if rows:
            count = self.f.size(self.arguments, self.shape.row_axes)
            if self.shape.turns:
                left = infix("-", Name("end"), Name("first"))
                count = call("tl.minimum", left, Name("ROWS"))
        if columns:
            length = self.f.size(self.arguments, self.shape.columns)
            if self.block is not None:
                left = infix("-", length, times(self.block, Name("BLOCK")))
                length = call("tl.minimum", left, Name("BLOCK"))
            count = times(count, length)
        return full(count)

    def turn(self) -> Expr:
        """The number of this turn of the loop, from one."""
        passed = infix("//", infix("-", Name("first"), Name("begin")), Name("ROWS"))
        return full(plus(passed, ONE))

    # ---- the program

    def _program(self) -> None:
        head, shape = self.s.head, self.shape
        head.append(Assign((Name("program"),), cast(call("tl.program_id", ZERO), "INDEX")))
        rest: Expr = Name("program")
        if shape.across == "part":
            blocks = self.arguments("blocks")
            head.append(Assign((Name("block"),), infix("%", rest, blocks)))
            self.block, rest = Name("block"), infix("//", rest, blocks)
        if shape.turns:
            chunks = self.arguments("chunks")
            here = infix("%", rest, chunks) if shape.outer else rest
            head.append(Assign((Name("chunk"),), here))
            self.chunk, rest = Name("chunk"), infix("//", rest, chunks)
        self._counted(shape.outer, rest, frozenset())

    def _counted(self, groups: tuple[Group, ...], number: Expr, sides: Sides) -> None:
        """The places along some axes, from a number that counts through all of them."""
        for n, group in reversed(list(enumerate(groups))):
            size = self.f.size(self.arguments, group)
            self._axis(group, infix("%", number, size) if n else number, sides)
            number = infix("//", number, size)

    def _axis(self, group: Group, here: Expr, sides: Sides) -> Name:
        """A variable, and the places of the parts that it counts through."""
        wanted = "_".join(group) if len(group) == 1 else self.f.dim_of(group[0])
        variable = Name(self.arguments.names.fresh(wanted.lower()))
        self.s.body.append(Assign((variable,), here))
        if len(group) == 1:
            self.s.lies(group[0], variable, sides)
            return variable
        self.s.lies(f"*{group[0]}", variable, sides)
        rest: Expr = variable
        for n, leaf in reversed(list(enumerate(group))):
            size = self.f.size(self.arguments, (leaf,))
            self.s.lies(leaf, infix("%", rest, size) if n else rest, sides)
            rest = infix("//", rest, size)
        return variable

    def _named(self, name: str, value: Expr, into: list[Stmt] | None = None) -> Name:
        (self.s.body if into is None else into).append(Assign((Name(name),), value))
        return Name(name)

    # ---- its columns and rows

    def _columns(self) -> None:
        lane = cast(lying(call("tl.arange", ZERO, Name("BLOCK"))), "INDEX")
        if self.block is not None:
            lane = plus(times(self.block, Name("BLOCK")), lane)
        variable = self._axis(self.shape.columns, lane, COLUMN)
        size = self.f.size(self.arguments, self.shape.columns)
        self.s.masks["column"] = self._named("in_columns", infix("<", variable, size))

    def _rows(self) -> None:
        s, shape = self.s, self.shape
        total = self.f.size(self.arguments, shape.row_axes)
        lane: Expr = cast(upright(call("tl.arange", ZERO, Name("ROWS"))), "INDEX")
        if shape.turns:
            step = self.arguments("rows of a chunk")
            begin = self._named("begin", times(Name("chunk"), step))
            total = self._named("end", call("tl.minimum", plus(begin, step), total))
            lane = plus(Name("first"), lane)
            s.enter()
        if len(shape.rows) == 1:
            row = self._axis(shape.rows[0], lane, ROW)
        else:
            row = self._named("row", lane)
            self._counted(shape.rows, row, ROW)
        s.masks["row"] = self._named("in_rows", infix("<", row, total))

    def _rows_of_group(self) -> None:
        """The rows of a group, through the order that sorts them, if they are not sorted."""
        s, cell = self.s, self.f.cell
        assert cell is not None
        starts, chunks = self.arguments("starts"), self.arguments("chunks")
        start = call("tl.load", plus(starts, s.at[cell]))
        stop = call("tl.load", plus(plus(starts, s.at[cell]), ONE))
        s.body.append(Assign((Name("start"), Name("stop")), Tuple((start, stop), True)))
        rows = infix("-", Name("stop"), Name("start"))
        length = self._named("length", call("tl.cdiv", rows, chunks))
        begin = self._named("begin", plus(Name("start"), times(Name("chunk"), length)))
        self._named("end", call("tl.minimum", plus(begin, length), Name("stop")))
        s.enter()
        lane = cast(upright(call("tl.arange", ZERO, Name("ROWS"))), "INDEX")
        place = self._named("place", plus(Name("first"), lane))
        s.masks["row"] = self._named("in_rows", infix("<", place, Name("end")))
        order = self.arguments("order")
        loaded = call("tl.load", plus(order, place), Name("in_rows"), ZERO)
        self._axis(self.shape.rows[0], IfElse(is_given(order), loaded, place), ROW)

    def _group_of_row(self) -> None:
        """The group that a row belongs to."""
        s, grouped, cell = self.s, self.f.plan.grouped, self.f.cell
        assert grouped is not None and cell is not None
        sides, row = s.sides[grouped], s.at[grouped]
        index = self.arguments("index")
        loaded = cast(s.load(index, row, sides), "INDEX")
        self._axis((cell,), IfElse(is_given(index), loaded, infix("*", row, ZERO)), sides)

    def _inside(self) -> Expr:
        mask = both(self.s.masks.get("row"), self.s.masks.get("column"))
        assert mask is not None
        if "row" in self.s.masks:
            mask = self.s.masks["both"] = self._named("inside", mask)
        return mask
