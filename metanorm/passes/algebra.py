"""The algebra of elementwise maps, as a table of rules: (name, pattern, replacement).

A rule applies where its pattern holds for the arguments of a function that is
about to be bound; each is tested against the oracle on random numbers.
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

# How the number is rounded that a whole number to its left is compared with.
ROUNDED = {"lt": "ceil", "ge": "ceil", "le": "floor", "gt": "floor"}
OPPOSITE = {"ceil": "floor", "floor": "ceil"}


@dataclass(frozen=True)
class Rule:
    """`function(arguments)` becomes what `replace` returns, unless that is `None`."""

    name: str
    function: str
    replace: Replacement


def _is(
    position: int, value: float, result: Callable[[Builder, tuple[Ref, ...]], Ref | None]
) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        return result(b, args) if b.constant_value(args[position]) == value else None

    return replacement


def _wide_enough(b: Builder, kept: Ref, args: tuple[Ref, ...]) -> Ref | None:
    """A constant has no axes, so leaving one out changes no type; a value might."""
    joined = b.space.join(*(b.types[a].axes for a in args))
    return kept if b.types[kept].axes == joined and b.types[kept].kind == "real" else None


def _first(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return _wide_enough(b, args[0], args)


def _second(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return _wide_enough(b, args[1], args)


def _square(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    return b.map("mul", args[0], args[0])


def _rsqrt(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    """a / sqrt(v) as a * rsqrt(v)."""
    divisor = b.ops.get(args[1])
    if not (isinstance(divisor, Map) and divisor.function == "sqrt"):
        return None
    return b.map("mul", args[0], b.map("rsqrt", divisor.arguments[0], name="%rstd"))


def _negated(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    inner = b.ops.get(args[0])
    if isinstance(inner, Map) and inner.function == "neg":
        return _wide_enough(b, inner.arguments[0], inner.arguments)  # not a condition
    return None


def _minus(kept: int, negated: int) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        inner = b.ops.get(args[negated])
        if isinstance(inner, Map) and inner.function == "neg":
            return b.map("sub", args[kept], inner.arguments[0])
        return None

    return replacement


def _scalars(function: str) -> Replacement:
    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        scalars = [op.value for op in (b.ops.get(a) for a in args) if isinstance(op, Number)]
        if len(scalars) < len(args) or sum(size_of(s) for s in scalars) >= MAX_SCALAR_SIZE:
            return None
        return b.number(apply(function, *scalars))

    return replacement


def _count(function: str) -> Replacement:
    """`position(C) + 1 <= 0.3 * size(C)` with the number rounded to the whole one that decides
    alike: in float32 a share of a length may fall on the other side of a whole number."""

    def replacement(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
        for place, other in ((0, 1), (1, 0)):
            bound = b.ops.get(args[other])
            counts = b.types[args[place]].axes and args[place] in b.integral
            if isinstance(bound, Number) and counts and args[other] not in b.integral:
                rounding = ROUNDED[function] if place == 0 else OPPOSITE[ROUNDED[function]]
                rounded = b.number(apply(rounding, bound.value))
                new = (args[0], rounded) if place == 0 else (rounded, args[1])
                return b.map(function, *new)
        return None

    return replacement


def _decided(b: Builder, args: tuple[Ref, ...]) -> Ref | None:
    """A choice by a flag that a call has set."""
    condition = b.constant_value(args[0])
    if condition is None:
        return None
    return _wide_enough(b, args[1] if condition else args[2], args)


RULES: tuple[Rule, ...] = (
    Rule("a + 0", "add", _is(1, 0, _first)),
    Rule("0 + a", "add", _is(0, 0, _second)),
    Rule("a + (-b)", "add", _minus(0, 1)),
    Rule("(-a) + b", "add", _minus(1, 0)),
    Rule("a - 0", "sub", _is(1, 0, _first)),
    Rule("0 - a", "sub", _is(0, 0, lambda b, args: b.map("neg", args[1]))),
    Rule("a * 1", "mul", _is(1, 1, _first)),
    Rule("1 * a", "mul", _is(0, 1, _second)),
    Rule("a * -1", "mul", _is(1, -1, lambda b, args: b.map("neg", args[0]))),
    Rule("a / 1", "div", _is(1, 1, _first)),
    Rule("a / sqrt(v)", "div", _rsqrt),
    Rule("a^1", "pow", _is(1, 1, _first)),
    Rule("a^2", "pow", _is(1, 2, _square)),
    Rule("-(-a)", "neg", _negated),
    Rule("where(1, a, b)", "where", _decided),
    *(Rule(f"a count {f} a share", f, _count(f)) for f in ROUNDED),
    *(Rule(f"{f} of scalars", f, _scalars(f)) for f in FUNCTIONS),
)

_BY_FUNCTION: dict[str, list[Rule]] = {}
for _rule in RULES:
    _BY_FUNCTION.setdefault(_rule.function, []).append(_rule)


def simplified(function: str, arguments: tuple[Ref, ...], builder: Builder) -> Ref | None:
    """What the first rule that applies makes of `function(arguments)`, or `None`."""
    for rule in _BY_FUNCTION.get(function, ()):
        result = rule.replace(builder, arguments)
        if result is not None:
            return result
    return None
