"""The C expression of each elementwise function that is not a formula of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metanorm.passes.compositions import PRIMITIVES
from metanorm.targets.native.cir import Apply, Conditional, Expr, Infix, Number, Prefix

CFunction = Callable[..., Expr]


def _infix(operator: str) -> CFunction:
    return lambda a, b: Infix(operator, a, b)


def _math(name: str) -> CFunction:
    return lambda x: Apply(f"R({name})", (x,))


def _one_over(x: Expr) -> Expr:
    return Infix("/", Number(1), x)


def _add(a: Expr, b: Expr) -> Expr:
    return Infix("+", a, b)


def _mul(a: Expr, b: Expr) -> Expr:
    return Infix("*", a, b)


def _is_nan(x: Expr) -> Expr:
    return Infix("!=", x, x)


def _extreme(operator: str) -> CFunction:
    """`min` or `max`, which returns NaN if either argument is NaN, as torch does."""
    return lambda a, b: Conditional(Infix("||", Infix(operator, a, b), _is_nan(a)), a, b)


_largest, _smallest = _extreme(">"), _extreme("<")


def _softplus(x: Expr) -> Expr:
    small = Apply("R(exp)", (Prefix("-", Apply("R(fabs)", (x,))),))
    return _add(Conditional(Infix("<", x, Number(0)), Number(0), x), Apply("R(log1p)", (small,)))


def _rescale(x: Expr, centre: Expr, shift: Expr, *factors: Expr) -> Expr:
    result: Expr = x if centre == Number(0) else Infix("-", x, centre)
    for factor in factors:
        result = _mul(result, factor)
    return result if shift == Number(0) else _add(result, shift)


FUNCTIONS: Mapping[str, CFunction] = {
    "add": _add,
    "sub": _infix("-"),
    "mul": _mul,
    "div": _infix("/"),
    "pow": lambda a, b: Apply("R(pow)", (a, b)),
    "neg": lambda a: Prefix("-", a),
    "lt": _infix("<"),
    "le": _infix("<="),
    "eq": _infix("=="),
    "ne": _infix("!="),
    "ge": _infix(">="),
    "gt": _infix(">"),
    "sqrt": _math("sqrt"),
    "root": _math("sqrt"),
    "rsqrt": lambda x: _one_over(Apply("R(sqrt)", (x,))),
    "exp": _math("exp"),
    "log": _math("log"),
    "abs": _math("fabs"),
    "sign": lambda x: Infix("-", Infix(">", x, Number(0)), Infix("<", x, Number(0))),
    "round": _math("rint"),
    "sin": _math("sin"),
    "cos": _math("cos"),
    "tanh": _math("tanh"),
    "erf": _math("erf"),
    "softplus": _softplus,
    "min": _smallest,
    "max": _largest,
    "where": lambda c, a, b: Conditional(c, a, b),
    "rescale": _rescale,
}
assert FUNCTIONS.keys() == PRIMITIVES, FUNCTIONS.keys() ^ PRIMITIVES
