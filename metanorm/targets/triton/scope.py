"""Values as a kernel has them: read at the places of their axes, or computed from others.

Everything is a tile of two dimensions, of which each may have length one, so that values along
rows, along columns and along neither combine without a word.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from metanorm.ir.nodes import (
    Buffer,
    Cast,
    Count,
    Detach,
    Dtype,
    Expand,
    Input,
    Lookup,
    Map,
    Number,
    Param,
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
    """A program has not all at hand that a schedule would need; another one serves."""


Sides = frozenset[str]  # of `row` and `column`: along which a value varies
ROW, COLUMN = frozenset(("row",)), frozenset(("column",))


# What holds around a loop: `at`, `sides`, `masks` and `turning`; values that are others in it.
ScopeState = tuple[dict[str, Expr], dict[str, Sides], dict[str, Expr], dict[str, int]]
Hidden = dict[Ref, tuple[Expr, int]]


@dataclass
class Scope:
    """The values of one kernel.

    `at` has the place along each axis, `sides` along which sides of the tile it varies, and
    `masks` what is inside along each. `levels` are the statements of the kernel, and of the loops
    in it that are being written, outermost first; what does not change in a loop is computed
    before it.
    """

    ctx: KernelContext
    arguments: Arguments
    at: dict[str, Expr] = field(default_factory=dict)
    sides: dict[str, Sides] = field(default_factory=dict)
    masks: dict[str, Expr] = field(default_factory=dict)
    levels: list[list[Stmt]] = field(default_factory=lambda: [[]])
    local: dict[Ref, Expr] = field(default_factory=dict)
    depth: dict[Ref, int] = field(default_factory=dict)  # the level that has a value, and
    position_level: dict[str, int] = field(default_factory=dict)  # that in which a place changes
    saved_scopes: list[tuple[ScopeState, Hidden]] = field(
        default_factory=list
    )  # what loops come back to
    reads: set[Ref] = field(default_factory=set)  # narrow values that have to be arrays

    @property
    def head(self) -> list[Stmt]:
        """What is done once."""
        return self.levels[0]

    @property
    def body(self) -> list[Stmt]:
        """What is done in each turn of the innermost loop."""
        return self.levels[-1]

    def enter_loop(self, axes: Collection[str] = ()) -> None:
        """Begin a loop, in which places along some axes may be others than around it."""
        hidden = {ref for ref in self.local if {*axes} & {*self.ctx.lets[ref].type.axes}}
        hidden_values = {ref: (self.local.pop(ref), self.depth.pop(ref)) for ref in hidden}
        state = dict(self.at), dict(self.sides), dict(self.masks), dict(self.position_level)
        self.saved_scopes.append((state, hidden_values))
        self.levels.append([])

    def leave_loop(self, variable: str, bounds: tuple[Expr, ...]) -> None:
        """End the innermost loop; what was known in it alone is forgotten."""
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
        """A value that the innermost loop has computed."""
        self.local[ref], self.depth[ref] = expr, len(self.levels) - 1

    # ---- places

    def set_position(self, axis: str, position: Expr, sides: Sides) -> None:
        """The place along an axis, in each turn of the innermost loop."""
        self.at[axis], self.sides[axis] = position, sides
        self.position_level[axis] = len(self.levels) - 1

    def offset(self, axes: tuple[str, ...], at: Mapping[str, Expr] | None = None) -> Expr:
        """The place of an element in an array over `axes`, which lie in their order."""
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
        """The sides of the tile along which a value on these axes varies."""
        return frozenset[str]().union(*(self.sides.get(axis, frozenset()) for axis in axes))

    def mask(self, sides: Sides) -> Expr | None:
        """What is inside along these sides."""
        if "both" in self.masks and len(sides) == 2:
            return self.masks["both"]
        result: Expr | None = None
        for side in ("row", "column"):
            if side in sides and side in self.masks:
                result = both(result, self.masks[side])
        return result

    def load(self, pointer: Expr, offset: Expr, sides: Sides, **options: Expr) -> Expr:
        """What lies at a place; zero outside."""
        mask = self.mask(sides)
        guard = () if mask is None else (mask, ZERO)
        return call("tl.load", plus(pointer, offset), *guard, **options)

    def load_wide(self, name: str, pointer: Expr, offset: Expr) -> Expr:
        """A tile of a tensor that is as large as the data."""
        return self.load(pointer, offset, ROW | COLUMN)

    def store(self, pointer: Expr, offset: Expr, sides: Sides, value: Expr) -> ExprStmt:
        """Write a tile, or what is the same all over it, to its place."""
        if not sides:
            offset = plus(offset, call("tl.zeros", Tuple((ONE, ONE)), Name("INDEX")))
        mask = self.mask(sides)
        guard = () if mask is None else (mask,)
        return ExprStmt(call("tl.store", plus(pointer, offset), value, *guard))

    # ---- values

    def value(self, ref: Ref) -> Expr:
        """A value, computed before if it has not been yet."""
        if ref not in self.local:
            expr = self.expression(ref)
            if not is_numeral(expr) and not isinstance(expr, Name):
                expr = self.bind_name(ref, expr)
            self.local[ref], self.depth[ref] = expr, self._level_of(ref)
        return self.local[ref]

    def bind_name(self, ref: Ref, expr: Expr) -> Name:
        """Give a value a name, where it is computed often enough."""
        name = Name(self.arguments.names.fresh(self.preferred_name(ref)))
        self.levels[self._level_of(ref)].append(Assign((name,), expr))
        return name

    def _level_of(self, ref: Ref) -> int:
        """The level in which all is known that a value depends on."""
        let = self.ctx.lets[ref]
        levels = [self.depth.get(r, 0) for r in operands(let.op)]
        return max([0, *levels, *(self.position_level.get(axis, 0) for axis in let.type.axes)])

    def preferred_name(self, ref: Ref) -> str:
        """What a value is called: by its own name, what it is for, or just any."""
        let = self.ctx.lets[ref]
        if isinstance(let.op, (Input, Param, Buffer)):
            return f"{let.op.name.removeprefix('kept.')}_here"
        return ref if not ref.startswith("%") else role_of(ref) or "t"

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
        """Whether a value is computed where it is read: a wide one, or one that takes little."""
        return self.ctx.is_wide(ref) or self.ctx.is_number(ref) or self.ctx.is_recomputable(ref)

    def mapped(self, function: str, arguments: tuple[Ref, ...]) -> Expr:
        """A function of values."""
        exprs = [self.value(a) for a in arguments]
        is_plain = [is_numeral(g) or self._is_number_op(a) for a, g in zip(arguments, exprs)]
        if (
            function == "where" and is_plain[1] and is_plain[2]
        ):  # else of a type that Triton chooses
            exprs[1] = as_tile(exprs[1])
        if all(is_plain) or (function == "where" and is_plain[0]):
            exprs[0] = as_tile(exprs[0])
        if function == "where" and (is_plain[0] or self.ctx.lets[arguments[0]].type.kind != "bool"):
            exprs[0] = infix("!=", exprs[0], ZERO)  # a switch among the hyperparameters
        return FUNCTIONS[function](*exprs)

    def rounded(self, ref: Ref, to: Dtype) -> Expr:
        """A value rounded to a dtype: that of a tensor of the call, or a known one."""
        dtype: Expr = Name(f"tl.{to.name}")
        if to.like:
            dtype = self.arguments(f"dtype {to.name}", f"{to.name}_dtype".upper())
        value = self.value(ref)
        value = as_tile(value) if is_numeral(value) or self._is_number_op(ref) else value
        return call("arithmetic.rounded", value, dtype, Name("REAL"))

    def _is_number_op(self, ref: Ref) -> bool:
        return isinstance(self.ctx.lets[ref].op, Number)

    def tensor_value(self, ref: Ref) -> Expr:
        """A tensor of the call, at the place of this tile."""
        let = self.ctx.lets[ref]
        op = let.op
        assert isinstance(op, (Input, Param, Buffer))
        pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
        if self.ctx.is_wide(ref):
            loaded = self.load_wide(op.name, pointer, self.wide_offset(op.name))
        else:
            order = self.ctx.axis_order(ref)
            loaded = self.load(pointer, self.offset(order), self.sides_of(order))
        return self.or_absent(ref, pointer, self.in_arithmetic_type(ref, loaded))

    def in_arithmetic_type(self, ref: Ref, loaded: Expr) -> Expr:
        """What was loaded, in the type of the arithmetic."""
        kind = self.ctx.lets[ref].type.kind
        if kind == "bool":
            return infix("!=", loaded, ZERO)
        return loaded if kind == "int" else cast(loaded, "REAL")

    def or_absent(self, ref: Ref, pointer: Expr, loaded: Expr) -> Expr:
        """A value that may not be given, and counts as a number then."""
        absent = self.ctx.absent_value(ref)
        if absent is None:
            return loaded
        default = as_tile(number(absent))
        if self.ctx.lets[ref].type.kind == "bool":
            default = infix("!=", default, ZERO)
        return IfElse(is_not_none(pointer), loaded, default)

    def wide_offset(self, field_: str) -> Expr:
        """The place of an element of a tensor as large as the data."""
        result: Expr = ZERO
        for dim in self.ctx.program.inputs[0].dims:
            position = self.offset(self.ctx.space.leaves(dim))
            stride = self.arguments(f"stride {field_} {dim}", f"{field_}_{dim}_stride".lower())
            result = plus(result, times(position, stride))
        return result

    def load_array(
        self, ref: Ref, at: Mapping[str, Expr] | None = None, sides: Sides | None = None
    ) -> Expr:
        """A narrow value that another kernel has stored."""
        if self.ctx.is_external(ref):
            raise AssertionError(ref)
        self.reads.add(ref)
        order = self.ctx.axis_order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.preferred_name(ref)}_of")
        kind = self.ctx.lets[ref].type.kind
        sides = self.sides_of(order) if sides is None else sides
        loaded = self.load(pointer, self.offset(order, at), sides)
        return infix("!=", loaded, ZERO) if kind == "bool" else loaded

    def load_elsewhere(self, ref: Ref, axis: str, position: Expr, varying_sides: Sides) -> Expr:
        """A narrow value at another place along one of its axes, which varies along some sides."""
        at = {**self.at, axis: position}
        order = self.ctx.axis_order(ref)
        sides = varying_sides | self.sides_of(tuple(a for a in order if a != axis))
        if self.ctx.is_external(ref):
            op = self.ctx.lets[ref].op
            assert isinstance(op, (Input, Param, Buffer))
            pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
            loaded = self.load(pointer, self.offset(order, at), sides)
            return self.or_absent(ref, pointer, self.in_arithmetic_type(ref, loaded))
        return self.load_array(ref, at, sides)

    def relocated(self, ref: Ref) -> Expr:
        """A value that is another one at another place."""
        match self.ctx.lets[ref].op:
            case Rename(value, old, new):
                return self.load_elsewhere(
                    value, old, self.at[new], self.sides.get(new, frozenset())
                )
            case Lookup(table, axis, int() as row):
                return self.load_elsewhere(table, axis, Literal(row), frozenset())
        raise AssertionError(ref)
