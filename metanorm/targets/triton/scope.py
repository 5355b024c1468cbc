"""Print the values of a kernel: loads at the current positions, and expressions of other values.

Every value is a two-dimensional tile. Either dimension may have length one, so that values along
rows, along columns and along neither broadcast.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from metanorm.ir.nodes import (
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Dtype,
    Expand,
    Input,
    Inside,
    Link,
    Lookup,
    Map,
    Number,
    Param,
    Piece,
    Position,
    Ref,
    Rename,
)
from metanorm.ir.operands import operands
from metanorm.ir.rename import role_of
from metanorm.ir.scalar import Const, Hyper, scalar_text
from metanorm.targets.python.pyir import (
    Assign,
    Expr,
    ExprStmt,
    For,
    IfElse,
    Literal,
    Name,
    Stmt,
    Tuple,
)
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.functions import FUNCTIONS
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    as_tile,
    both,
    call,
    cast,
    infix,
    is_not_none,
    is_numeral,
    number,
    plus,
    times,
)


class NotInTile(Exception):
    """A program does not have the values that this schedule needs. Another schedule is used."""


Sides = frozenset[str]  # of `row` and `column`: along which a value varies
ROW, COLUMN = frozenset(("row",)), frozenset(("column",))


# The state to restore after a loop: `at`, `sides`, `masks` and `position_level`, and the values
# that differ inside the loop.
ScopeState = tuple[dict[str, Expr], dict[str, Sides], dict[str, Expr], dict[str, int]]
Hidden = dict[Ref, tuple[Expr, int]]
Array = tuple[str, tuple[str, ...]]  # the key of an array, and the keys of its lengths


@dataclass
class Scope:
    """The values of one kernel.

    `at` has the position along each axis, `sides` the sides of the tile along which it varies, and
    `masks` the condition that an element is inside, per side. `levels` are the statements of the
    kernel and of its open loops, outermost first. A value is computed in the outermost level that
    has its operands, so that loop invariants are hoisted.
    """

    ctx: KernelContext
    arguments: Arguments
    at: dict[str, Expr] = field(default_factory=dict)
    sides: dict[str, Sides] = field(default_factory=dict)
    masks: dict[str, Expr] = field(default_factory=dict)
    levels: list[list[Stmt]] = field(default_factory=lambda: [[]])
    local: dict[Ref, Expr] = field(default_factory=dict)
    depth: dict[Ref, int] = field(default_factory=dict)  # the level that has a value
    position_level: dict[str, int] = field(default_factory=dict)  # in which a position changes
    saved_scopes: list[tuple[ScopeState, Hidden]] = field(
        default_factory=list
    )  # restored at the end of loops
    reads: set[Ref] = field(default_factory=set)  # narrow values that have to be arrays

    @property
    def head(self) -> list[Stmt]:
        """The statements outside all loops."""
        return self.levels[0]

    @property
    def body(self) -> list[Stmt]:
        """The statements of the innermost open loop."""
        return self.levels[-1]

    def enter_loop(self, axes: Collection[str] = ()) -> None:
        """Open a loop, in which positions along `axes` differ from those around it."""
        hidden = {ref for ref in self.local if {*axes} & {*self.ctx.lets[ref].type.axes}}
        hidden_values = {ref: (self.local.pop(ref), self.depth.pop(ref)) for ref in hidden}
        state = dict(self.at), dict(self.sides), dict(self.masks), dict(self.position_level)
        self.saved_scopes.append((state, hidden_values))
        self.levels.append([])

    def leave_loop(self, variable: str, bounds: tuple[Expr, ...]) -> None:
        """Close the innermost loop, and forget the values that only it has."""
        body = tuple(self.levels.pop())
        self.body.append(For(Name(variable), call("range", *bounds), body))
        ended_level = len(self.levels)
        self.local = {ref: e for ref, e in self.local.items() if self.depth[ref] < ended_level}
        self.depth = {ref: depth for ref, depth in self.depth.items() if depth < ended_level}
        (self.at, self.sides, self.masks, self.position_level), hidden_values = (
            self.saved_scopes.pop()
        )
        for ref, (value, depth) in hidden_values.items():
            self.local[ref], self.depth[ref] = value, depth

    def bind(self, ref: Ref, expr: Expr) -> None:
        """Bind a value to an expression in the innermost loop."""
        self.local[ref], self.depth[ref] = expr, len(self.levels) - 1

    # ---- positions and offsets

    def set_position(self, axis: str, position: Expr, sides: Sides) -> None:
        """Set the position along an axis for the innermost loop."""
        self.at[axis], self.sides[axis] = position, sides
        self.position_level[axis] = len(self.levels) - 1

    def offset(self, axes: tuple[str, ...], at: Mapping[str, Expr] | None = None) -> Expr:
        """The offset of an element in a contiguous array over `axes`."""
        at = self.at if at is None else at
        result: Expr = ZERO
        skip = 0
        for n, axis in enumerate(axes):
            if skip:
                skip -= 1
                continue
            group = next((g for g in self.ctx.loops if len(g) > 1 and g[0] == axis), None)
            if group and axes[n : n + len(group)] == group and f"*{axis}" in at and at is self.at:
                skip = len(group) - 1
                size, position = self.ctx.size(self.arguments, group), at[f"*{axis}"]
            elif axis in at:
                size, position = self.ctx.size(self.arguments, (axis,)), at[axis]
            else:
                raise NotInTile(f"a value at another place along {axis}")
            result = position if result == ZERO else plus(times(result, size), position)
        return result

    def sides_of(self, axes: tuple[str, ...]) -> Sides:
        """The sides of the tile along which a value on `axes` varies."""
        return frozenset[str]().union(*(self.sides.get(axis, frozenset()) for axis in axes))

    def mask(self, sides: Sides) -> Expr | None:
        """The mask of elements that are inside along these sides."""
        if "both" in self.masks and len(sides) == 2:
            return self.masks["both"]
        result: Expr | None = None
        for side in ("row", "column"):
            if side in sides and side in self.masks:
                result = both(result, self.masks[side])
        return result

    def load(self, pointer: Expr, offset: Expr, sides: Sides, where: Expr | None = None) -> Expr:
        """A masked load; elements outside are zero, and those that `where` leaves out."""
        mask = self.mask(sides) if where is None else both(self.mask(sides), where)
        guard = () if mask is None else (mask, ZERO)
        return call("tl.load", plus(pointer, offset), *guard)

    def store(self, pointer: Expr, offset: Expr, sides: Sides, value: Expr) -> ExprStmt:
        """A masked store of a tile, or of a value that is the same in the whole tile."""
        if not sides:
            offset = plus(offset, call("tl.zeros", Tuple((ONE, ONE)), Name("INDEX")))
        mask = self.mask(sides)
        guard = () if mask is None else (mask,)
        return ExprStmt(call("tl.store", plus(pointer, offset), value, *guard))

    # ---- values

    def value(self, ref: Ref) -> Expr:
        """The expression of a value. It is computed first if that has not happened yet."""
        if ref not in self.local:
            expr = self.expression(ref)
            if not is_numeral(expr) and not isinstance(expr, Name):
                expr = self.bind_name(ref, expr)
            self.local[ref], self.depth[ref] = expr, self._level_of(ref)
        return self.local[ref]

    def bind_name(self, ref: Ref, expr: Expr) -> Name:
        """Assign a value to a variable, in the outermost level that can compute it."""
        name = Name(self.arguments.names.fresh(self.preferred_name(ref)))
        self.levels[self._level_of(ref)].append(Assign((name,), expr))
        return name

    def _level_of(self, ref: Ref) -> int:
        """The outermost level that has everything that a value depends on."""
        let = self.ctx.lets[ref]
        levels = [self.depth.get(r, 0) for r in operands(let.op)]
        return max([0, *levels, *(self.position_level.get(axis, 0) for axis in let.type.axes)])

    def preferred_name(self, ref: Ref) -> str:
        """The preferred name of a value: that of the spec, or of its role."""
        let = self.ctx.lets[ref]
        if isinstance(let.op, (Input, Param, Buffer)):
            return f"{let.op.name.removeprefix('kept.')}_here"
        return ref if not ref.startswith("%") else role_of(ref) or self.ctx.roles.get(ref, "t")

    def expression(self, ref: Ref) -> Expr:
        """The expression of a value."""
        let = self.ctx.lets[ref]
        if isinstance(let.op, (Input, Param, Buffer)):
            return self.tensor_value(ref)
        if ref in self.ctx.measured:
            return self.load_array(ref)
        match let.op:
            case Number(Const(value)):
                return number(value)
            case Number(scalar):
                preferred = scalar.name if isinstance(scalar, Hyper) else "number"
                return self.arguments(f"number {scalar_text(scalar)}", preferred)
            case Position(axis):
                return cast(self.offset((axis,)), "REAL")
            case Inside(piece):
                whole = self.ctx.whole_axis(piece)
                inside = self.is_inside(piece, self.offset((whole,)))
                return inside if self.sides.get(whole) else infix("!=", as_tile(inside), ZERO)
            case Link():  # a loop goes along edges, and each edge counts as one
                return as_tile(ONE)
            case Count(over=over) if self.ctx.is_number(ref):
                axes = self.ctx.leaves(axis for axis, _ in over)
                return as_tile(self.ctx.size(self.arguments, axes))
            case Map(function, arguments) if self.is_computed_in_place(ref):
                return self.mapped(function, arguments)
            case Cast(value, to) if self.is_computed_in_place(ref):
                return self.rounded(value, to)
            case Detach(value) | Expand(value) if self.is_computed_in_place(ref):
                return self.value(value)
        return self.load_array(ref)

    def is_computed_in_place(self, ref: Ref) -> bool:
        """Whether each kernel computes a value itself: it is wide, a number, or cheap."""
        if self.ctx.reads_along_axis(ref):
            return False
        return self.ctx.is_wide(ref) or self.ctx.is_number(ref) or self.ctx.is_recomputable(ref)

    def mapped(self, function: str, arguments: tuple[Ref, ...]) -> Expr:
        """The expression of an elementwise function."""
        exprs = [self.value(a) for a in arguments]
        is_plain = [is_numeral(g) or self._is_number_op(a) for a, g in zip(arguments, exprs)]
        if function == "where" and is_plain[1] and is_plain[2]:  # else Triton chooses the dtype
            exprs[1] = as_tile(exprs[1])
        if all(is_plain) or (function == "where" and is_plain[0]):
            exprs[0] = as_tile(exprs[0])
        if function == "where" and (is_plain[0] or self.ctx.lets[arguments[0]].type.kind != "bool"):
            exprs[0] = infix("!=", exprs[0], ZERO)  # a switch among the hyperparameters
        return FUNCTIONS[function](*exprs)

    def rounded(self, ref: Ref, to: Dtype) -> Expr:
        """A value rounded to a dtype, which is fixed or that of a tensor of the call."""
        dtype: Expr = Name(f"tl.{to.name}")
        if to.like:
            dtype = self.arguments(f"dtype {to.name}", f"{to.name}_dtype".upper())
        value = self.value(ref)
        value = as_tile(value) if is_numeral(value) or self._is_number_op(ref) else value
        return call("arithmetic.rounded", value, dtype, Name("REAL"))

    def _is_number_op(self, ref: Ref) -> bool:
        return isinstance(self.ctx.lets[ref].op, Number)

    def tensor_value(self, ref: Ref) -> Expr:
        """Load a tensor of the call at the current positions."""
        let = self.ctx.lets[ref]
        op = let.op
        assert isinstance(op, (Input, Param, Buffer))
        pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
        if self.ctx.is_wide(ref):
            loaded = self.load(pointer, self.wide_offset(op.name), ROW | COLUMN)
        else:
            order = self.ctx.axis_order(ref)
            loaded = self.load(pointer, self.offset(order), self.sides_of(order))
        return self.or_absent(ref, pointer, self.in_arithmetic_type(ref, loaded))

    def in_arithmetic_type(self, ref: Ref, loaded: Expr) -> Expr:
        """A loaded tile in the dtype of the arithmetic."""
        kind = self.ctx.lets[ref].type.kind
        if kind == "bool":
            return infix("!=", loaded, ZERO)
        return loaded if kind == "int" else cast(loaded, "REAL")

    def or_absent(self, ref: Ref, pointer: Expr, loaded: Expr) -> Expr:
        """A loaded value, or a number if its optional tensor is missing."""
        absent = self.ctx.absent_value(ref)
        if absent is None:
            return loaded
        default = as_tile(number(absent))
        if self.ctx.lets[ref].type.kind == "bool":
            default = infix("!=", default, ZERO)
        return IfElse(is_not_none(pointer), loaded, default)

    def wide_offset(self, field_: str) -> Expr:
        """The offset of the current element in a wide tensor, by its strides."""
        result: Expr = ZERO
        for dim in self.ctx.program.inputs[0].dims:
            position = self.offset(self.ctx.space.leaves(dim))
            stride = self.arguments(f"stride {field_} {dim}", f"{field_}_{dim}_stride".lower())
            result = plus(result, times(position, stride))
        return result

    def load_array(
        self,
        ref: Ref,
        at: Mapping[str, Expr] | None = None,
        sides: Sides | None = None,
        where: Expr | None = None,
    ) -> Expr:
        """Load a narrow value that another kernel has stored."""
        if self.ctx.is_external(ref):
            raise AssertionError(ref)
        self.reads.add(ref)
        order = self.ctx.axis_order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.preferred_name(ref)}_of")
        kind = self.ctx.lets[ref].type.kind
        sides = self.sides_of(order) if sides is None else sides
        loaded = self.load(pointer, self.offset(order, at), sides, where)
        return infix("!=", loaded, ZERO) if kind == "bool" else loaded

    def load_elsewhere(
        self, ref: Ref, axis: str, position: Expr, varying_sides: Sides, where: Expr | None = None
    ) -> Expr:
        """Load a narrow value at another position along one of its axes."""
        at = {**self.at, axis: position}
        order = self.ctx.axis_order(ref)
        sides = varying_sides | self.sides_of(tuple(a for a in order if a != axis))
        if self.ctx.is_external(ref):
            op = self.ctx.lets[ref].op
            assert isinstance(op, (Input, Param, Buffer))
            pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
            loaded = self.load(pointer, self.offset(order, at), sides, where)
            return self.or_absent(ref, pointer, self.in_arithmetic_type(ref, loaded))
        return self.load_array(ref, at, sides, where)

    def relocated(self, ref: Ref) -> Expr:
        """The expression of a rename or lookup: another value at another position."""
        match self.ctx.lets[ref].op:
            case Rename(value, old, new):
                return self.load_elsewhere(
                    value, old, self.at[new], self.sides.get(new, frozenset())
                )
            case Lookup(table, axis, int() as row):
                return self.load_elsewhere(table, axis, Literal(row), frozenset())
            case Piece(value, piece):
                place = plus(self.at[piece], self.ctx.run_start(self.arguments, piece))
                sides = self.sides.get(piece, frozenset())
                return self.load_elsewhere(value, self.ctx.whole_axis(piece), place, sides)
            case Concat() as op:
                return self._of_runs(op)
        raise AssertionError(ref)

    def is_inside(self, run: str, position: Expr) -> Expr:
        """Whether a position of the whole axis is in a run."""
        start = self.ctx.run_start(self.arguments, run)
        end = plus(start, self.ctx.size(self.arguments, (run,)))
        inside = both(infix(">=", position, start), infix("<", position, end))
        assert inside is not None
        return inside

    def _of_runs(self, op: Concat) -> Expr:
        """The value of the run that a position is in; zero in none of them."""
        sides = self.sides.get(op.axis, frozenset())
        chosen: Expr = as_tile(ZERO)
        for ref, piece in reversed([*zip(op.values, op.pieces)]):
            inside = self.is_inside(piece, self.at[op.axis])
            place = infix("-", self.at[op.axis], self.ctx.run_start(self.arguments, piece))
            value = self.load_elsewhere(ref, piece, place, sides, inside)
            chosen = call("tl.where", inside, value, chosen)
        return chosen


def stored_array(scope: Scope, ref: Ref, value: Expr) -> Array:
    """Print the store of a value into an array that later kernels read. Returns the array."""
    order = scope.ctx.axis_order(ref)
    pointer = scope.arguments(f"value {ref}", f"{scope.preferred_name(ref)}_of")
    scope.body.append(scope.store(pointer, scope.offset(order), scope.sides_of(order), value))
    return f"value {ref}", tuple(f"size {axis}" for axis in order)
