"""The algebra of elementwise maps, as a table of rules.

The builder asks the rules of a function before it binds one. A test compares each rule with the
oracle on random numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from metanorm.ir.nodes import Map, Number, Ref
from metanorm.ir.scalar import FUNCTIONS, MAX_SCALAR_SIZE, apply, size_of

if TYPE_CHECKING:
    from metanorm.passes.builder import Builder

Replacement = Callable[["Builder", tuple[Ref, ...]], "Ref | None"]

# How to round the right-hand side of a comparison whose left-hand side is a whole number.
ROUNDED = {"lt": "ceil", "ge": "ceil", "le": "floor", "gt": "floor"}
OPPOSITE = {"ceil": "floor", "floor": "ceil"}


@dataclass(frozen=True)
class Rule:
    """`function(arguments)` becomes what `replace` returns, unless that is `None`."""

    name: str
    function: str
    replace: Replacement


def _if_constant(
    position: int, value: float, result: Callable[[Builder, tuple[Ref, ...]], Ref | None]
) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        return result(b, args) if b.constant_value(args[position]) == value else None

    return replacement


def _if_same_type(b: Builder, operand: Ref, args: tuple[Ref, ...]) -> Ref | None:
    """The operand, if a function of all `args` has its type and can be left out."""
    joined = b.space.join(*(b.types[a].axes for a in args))
    return operand if b.types[operand].axes == joined and b.types[operand].kind == "real" else None


def _first_operand(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return _if_same_type(b, args[0], args)


def _second_operand(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return _if_same_type(b, args[1], args)


def _square(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return b.map("mul", args[0], args[0])


def _rsqrt(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    """a / sqrt(v) as a * rsqrt(v)."""
    divisor = b.ops.get(args[1])
    if not (isinstance(divisor, Map) and divisor.function == "sqrt"):
        return None
    return b.map("mul", args[0], b.map("rsqrt", divisor.arguments[0], name="%rstd"))


def _double_negation(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    inner = b.ops.get(args[0])
    if isinstance(inner, Map) and inner.function == "neg":
        return _if_same_type(b, inner.arguments[0], inner.arguments)  # not a condition
    return None


def _as_difference(minuend: int, negated: int) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        inner = b.ops.get(args[negated])
        if isinstance(inner, Map) and inner.function == "neg":
            return b.map("sub", args[minuend], inner.arguments[0])
        return None

    return replacement


def _fold_scalars(function: str) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        scalars = [op.value for op in (b.ops.get(a) for a in args) if isinstance(op, Number)]
        if len(scalars) < len(args) or sum(size_of(s) for s in scalars) >= MAX_SCALAR_SIZE:
            return None
        return b.number(apply(function, *scalars))

    return replacement


def _count_bound(function: str) -> Replacement:
    """`position(C) + 1 <= 0.3 * size(C)` with the bound rounded to a whole number.

    The result is the same in exact arithmetic. In float32, the product may fall on the other side
    of a whole number.
    """

    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        for position, other in ((0, 1), (1, 0)):
            bound = b.ops.get(args[other])
            counts = b.types[args[position]].axes and args[position] in b.integral
            if isinstance(bound, Number) and counts and args[other] not in b.integral:
                rounding = ROUNDED[function] if position == 0 else OPPOSITE[ROUNDED[function]]
                rounded = b.number(apply(rounding, bound.value))
                new = (args[0], rounded) if position == 0 else (rounded, args[1])
                return b.map(function, *new)
        return None

    return replacement


def _decided_choice(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    """A choice whose condition is a constant."""
    condition = b.constant_value(args[0])
    if condition is None:
        return None
    return _if_same_type(b, args[1] if condition else args[2], args)


RULES: tuple[Rule, ...] = (
    Rule("a + 0", "add", _if_constant(1, 0, _first_operand)),
    Rule("0 + a", "add", _if_constant(0, 0, _second_operand)),
    Rule("a + (-b)", "add", _as_difference(0, 1)),
    Rule("(-a) + b", "add", _as_difference(1, 0)),
    Rule("a - 0", "sub", _if_constant(1, 0, _first_operand)),
    Rule("0 - a", "sub", _if_constant(0, 0, lambda b, args: b.map("neg", args[1]))),
    Rule("a * 1", "mul", _if_constant(1, 1, _first_operand)),
    Rule("1 * a", "mul", _if_constant(0, 1, _second_operand)),
    Rule("a * -1", "mul", _if_constant(1, -1, lambda b, args: b.map("neg", args[0]))),
    Rule("a / 1", "div", _if_constant(1, 1, _first_operand)),
    Rule("a / sqrt(v)", "div", _rsqrt),
    Rule("a^1", "pow", _if_constant(1, 1, _first_operand)),
    Rule("a^2", "pow", _if_constant(1, 2, _square)),
    Rule("-(-a)", "neg", _double_negation),
    Rule("where(1, a, b)", "where", _decided_choice),
    *(Rule(f"a whole number {f} a bound", f, _count_bound(f)) for f in ROUNDED),
    *(Rule(f"{f} of scalars", f, _fold_scalars(f)) for f in FUNCTIONS),
)

_BY_FUNCTION: dict[str, list[Rule]] = {}
for _rule in RULES:
    _BY_FUNCTION.setdefault(_rule.function, []).append(_rule)


def simplified(function: str, arguments: tuple[Ref, ...], builder: Builder) -> Ref | None:
    """The replacement of `function(arguments)` by the first rule that applies, or `None`."""
    for rule in _BY_FUNCTION.get(function, ()):
        result = rule.replace(builder, arguments)
        if result is not None:
            return result
    return None
