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
from metanorm.targets.python.pyir import Assign, Do, Expr, For, IfElse, Literal, Name, Stmt, Tuple
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.functions import FUNCTIONS
from metanorm.targets.triton.terms import (
    ONE,
    ZERO,
    both,
    call,
    cast,
    full,
    infix,
    is_given,
    number,
    numeral,
    plus,
    times,
)


class NotInTile(Exception):
    """A program has not all at hand that a schedule would need; another one serves."""


Sides = frozenset[str]  # of `row` and `column`: along which a value varies
ROW, COLUMN = frozenset(("row",)), frozenset(("column",))


# What holds around a loop: `at`, `sides`, `masks` and `turning`; values that are others in it.
Outside = tuple[dict[str, Expr], dict[str, Sides], dict[str, Expr], dict[str, int]]
Hidden = dict[Ref, tuple[Expr, int]]


@dataclass
class Scope:
    """The values of one kernel.

    `at` has the place along each axis, `sides` along which sides of the tile it varies, and
    `masks` what is inside along each. `levels` are the statements of the kernel, and of the loops
    in it that are being written, outermost first; what does not change in a loop is computed
    before it.
    """

    context: KernelContext
    arguments: Arguments
    at: dict[str, Expr] = field(default_factory=dict)
    sides: dict[str, Sides] = field(default_factory=dict)
    masks: dict[str, Expr] = field(default_factory=dict)
    levels: list[list[Stmt]] = field(default_factory=lambda: [[]])
    local: dict[Ref, Expr] = field(default_factory=dict)
    depth: dict[Ref, int] = field(default_factory=dict)  # the level that has a value, and
    turning: dict[str, int] = field(default_factory=dict)  # that in which a place changes
    around: list[tuple[Outside, Hidden]] = field(default_factory=list)  # what loops come back to
    reads: set[Ref] = field(default_factory=set)  # narrow values that have to be arrays

    @property
    def head(self) -> list[Stmt]:
        """What is done once."""
        return self.levels[0]

    @property
    def body(self) -> list[Stmt]:
        """What is done in each turn of the innermost loop."""
        return self.levels[-1]

    def enter(self, axes: Collection[str] = ()) -> None:
        """Begin a loop, in which places along some axes may be others than around it."""
        hidden = {ref for ref in self.local if {*axes} & {*self.context.lets[ref].type.axes}}
        known = {ref: (self.local.pop(ref), self.depth.pop(ref)) for ref in hidden}
        here = dict(self.at), dict(self.sides), dict(self.masks), dict(self.turning)
        self.around.append((here, known))
        self.levels.append([])

    def leave(self, variable: str, bounds: tuple[Expr, ...]) -> None:
        """End the innermost loop; what was known in it alone is forgotten."""
        body = tuple(self.levels.pop())
        self.body.append(For(Name(variable), call("range", *bounds), body))
        gone = len(self.levels)
        self.local = {ref: e for ref, e in self.local.items() if self.depth[ref] < gone}
        self.depth = {ref: depth for ref, depth in self.depth.items() if depth < gone}
        (self.at, self.sides, self.masks, self.turning), known = self.around.pop()
        for ref, (value, depth) in known.items():
            self.local[ref], self.depth[ref] = value, depth

    def found(self, ref: Ref, expr: Expr) -> None:
        """A value that the innermost loop has computed."""
        self.local[ref], self.depth[ref] = expr, len(self.levels) - 1

    # ---- places

    def lies(self, axis: str, here: Expr, sides: Sides) -> None:
        """The place along an axis, in each turn of the innermost loop."""
        self.at[axis], self.sides[axis] = here, sides
        self.turning[axis] = len(self.levels) - 1

    def place(self, axes: tuple[str, ...], at: Mapping[str, Expr] | None = None) -> Expr:
        """The place of an element in an array over `axes`, which lie in their order."""
        at = self.at if at is None else at
        result: Expr = ZERO
        skip = 0
        for n, axis in enumerate(axes):
            if skip:
                skip -= 1
                continue
            group = next((g for g in self.context.groups if len(g) > 1 and g[0] == axis), None)
            if group and axes[n : n + len(group)] == group and f"*{axis}" in at and at is self.at:
                skip = len(group) - 1
                size, here = self.context.size(self.arguments, group), at[f"*{axis}"]
            elif axis in at:
                size, here = self.context.size(self.arguments, (axis,)), at[axis]
            else:
                raise NotInTile(f"a value at another place along {axis}")
            result = here if result == ZERO else plus(times(result, size), here)
        return result

    def varies(self, axes: tuple[str, ...]) -> Sides:
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

    def load(self, pointer: Expr, place: Expr, sides: Sides, **how: Expr) -> Expr:
        """What lies at a place; zero outside."""
        mask = self.mask(sides)
        guard = () if mask is None else (mask, ZERO)
        return call("tl.load", plus(pointer, place), *guard, **how)

    def loaded(self, name: str, pointer: Expr, place: Expr) -> Expr:
        """A tile of a tensor that is as large as the data."""
        return self.load(pointer, place, ROW | COLUMN)

    def store(self, pointer: Expr, place: Expr, sides: Sides, value: Expr) -> Do:
        """Write a tile, or what is the same all over it, to its place."""
        if not sides:
            place = plus(place, call("tl.zeros", Tuple((ONE, ONE)), Name("INDEX")))
        mask = self.mask(sides)
        guard = () if mask is None else (mask,)
        return Do(call("tl.store", plus(pointer, place), value, *guard))

    # ---- values

    def value(self, ref: Ref) -> Expr:
        """A value, computed before if it has not been yet."""
        if ref not in self.local:
            expr = self.computed(ref)
            if not numeral(expr) and not isinstance(expr, Name):
                expr = self.keep(ref, expr)
            self.local[ref], self.depth[ref] = expr, self._depth(ref)
        return self.local[ref]

    def keep(self, ref: Ref, expr: Expr) -> Name:
        """Give a value a name, where it is computed often enough."""
        name = Name(self.arguments.names.fresh(self.wanted(ref)))
        self.levels[self._depth(ref)].append(Assign((name,), expr))
        return name

    def _depth(self, ref: Ref) -> int:
        """The level in which all is known that a value depends on."""
        let = self.context.lets[ref]
        levels = [self.depth.get(r, 0) for r in operands(let.op)]
        return max([0, *levels, *(self.turning.get(axis, 0) for axis in let.type.axes)])

    def wanted(self, ref: Ref) -> str:
        """What a value is called: by its own name, what it is for, or just any."""
        let = self.context.lets[ref]
        if isinstance(let.op, (Input, Param, Buffer)):
            return f"{let.op.name.removeprefix('kept.')}_here"
        return ref if not ref.startswith("%") else role_of(ref) or "t"

    def computed(self, ref: Ref) -> Expr:
        """The expression of a value."""
        let = self.context.lets[ref]
        if isinstance(let.op, (Input, Param, Buffer)):
            return self.outside(ref)
        if ref in self.context.measured:
            return self.array(ref)
        match let.op:
            case Number(Const(value)):
                return number(value)
            case Number(scalar):
                wanted = scalar.name if isinstance(scalar, Hyper) else "number"
                return self.arguments(f"number {scalar_text(scalar)}", wanted)
            case Position(axis):
                return cast(self.place((axis,)), "REAL")
            case Count(over=over) if self.context.numeric(ref):
                axes = self.context.leaves(axis for axis, _ in over)
                return full(self.context.size(self.arguments, axes))
            case Map(function, arguments) if self.simple(ref):
                return self.mapped(function, arguments)
            case Cast(value, to) if self.simple(ref):
                return self.rounded(value, to)
            case Detach(value) | Expand(value) if self.simple(ref):
                return self.value(value)
        return self.array(ref)

    def simple(self, ref: Ref) -> bool:
        """Whether a value is computed where it is read: a wide one, or one that takes little."""
        return self.context.wide(ref) or self.context.numeric(ref) or self.context.light(ref)

    def mapped(self, function: str, arguments: tuple[Ref, ...]) -> Expr:
        """A function of values."""
        given = [self.value(a) for a in arguments]
        plain = [numeral(g) or self._number(a) for a, g in zip(arguments, given)]
        if function == "where" and plain[1] and plain[2]:  # else of a type that Triton chooses
            given[1] = full(given[1])
        if all(plain) or (function == "where" and plain[0]):
            given[0] = full(given[0])
        if function == "where" and (
            plain[0] or self.context.lets[arguments[0]].type.kind != "bool"
        ):
            given[0] = infix("!=", given[0], ZERO)  # a switch among the hyperparameters
        return FUNCTIONS[function](*given)

    def rounded(self, ref: Ref, to: Dtype) -> Expr:
        """A value rounded to a dtype: that of a tensor of the call, or a known one."""
        dtype: Expr = Name(f"tl.{to.name}")
        if to.like:
            dtype = self.arguments(f"dtype {to.name}", f"{to.name}_dtype".upper())
        value = self.value(ref)
        value = full(value) if numeral(value) or self._number(ref) else value
        return call("arithmetic.rounded", value, dtype, Name("REAL"))

    def _number(self, ref: Ref) -> bool:
        return isinstance(self.context.lets[ref].op, Number)

    def outside(self, ref: Ref) -> Expr:
        """A tensor of the call, at the place of this tile."""
        let = self.context.lets[ref]
        op = let.op
        assert isinstance(op, (Input, Param, Buffer))
        pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
        if self.context.wide(ref):
            loaded = self.loaded(op.name, pointer, self.strided(op.name))
        else:
            order = self.context.order(ref)
            loaded = self.load(pointer, self.place(order), self.varies(order))
        return self.present(ref, pointer, self.read(ref, loaded))

    def read(self, ref: Ref, loaded: Expr) -> Expr:
        """What was loaded, in the type of the arithmetic."""
        kind = self.context.lets[ref].type.kind
        if kind == "bool":
            return infix("!=", loaded, ZERO)
        return loaded if kind == "int" else cast(loaded, "REAL")

    def present(self, ref: Ref, pointer: Expr, loaded: Expr) -> Expr:
        """A value that may not be given, and counts as a number then."""
        absent = self.context.absent(ref)
        if absent is None:
            return loaded
        other = full(number(absent))
        if self.context.lets[ref].type.kind == "bool":
            other = infix("!=", other, ZERO)
        return IfElse(is_given(pointer), loaded, other)

    def strided(self, field_: str) -> Expr:
        """The place of an element of a tensor as large as the data."""
        result: Expr = ZERO
        for dim in self.context.program.inputs[0].dims:
            here = self.place(self.context.space.leaves(dim))
            stride = self.arguments(f"stride {field_} {dim}", f"{field_}_{dim}_stride".lower())
            result = plus(result, times(here, stride))
        return result

    def array(
        self, ref: Ref, at: Mapping[str, Expr] | None = None, sides: Sides | None = None
    ) -> Expr:
        """A narrow value that another kernel has stored."""
        if self.context.given(ref):
            raise AssertionError(ref)
        self.reads.add(ref)
        order = self.context.order(ref)
        pointer = self.arguments(f"value {ref}", f"{self.wanted(ref)}_of")
        kind = self.context.lets[ref].type.kind
        sides = self.varies(order) if sides is None else sides
        loaded = self.load(pointer, self.place(order, at), sides)
        return infix("!=", loaded, ZERO) if kind == "bool" else loaded

    def moved(self, ref: Ref, axis: str, to: Expr, along: Sides) -> Expr:
        """A narrow value at another place along one of its axes, which varies along some sides."""
        at = {**self.at, axis: to}
        order = self.context.order(ref)
        sides = along | self.varies(tuple(a for a in order if a != axis))
        if self.context.given(ref):
            op = self.context.lets[ref].op
            assert isinstance(op, (Input, Param, Buffer))
            pointer = self.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
            loaded = self.load(pointer, self.place(order, at), sides)
            return self.present(ref, pointer, self.read(ref, loaded))
        return self.array(ref, at, sides)

    def elsewhere(self, ref: Ref) -> Expr:
        """A value that is another one at another place."""
        match self.context.lets[ref].op:
            case Rename(value, old, new):
                return self.moved(value, old, self.at[new], self.sides.get(new, frozenset()))
            case Lookup(table, axis, int() as row):
                return self.moved(table, axis, Literal(row), frozenset())
        raise AssertionError(ref)
