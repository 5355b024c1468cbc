"""The Triton expression of each elementwise function that is not a formula of others.

A function that takes more than an operator is in `metanorm.runtime.triton.arithmetic`, which
generated files import.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metanorm.passes.compositions import PRIMITIVES
from metanorm.targets.python.pyir import Expr, Literal, Unary
from metanorm.targets.triton.terms import ZERO, as_tile, call, infix, is_numeral, plus, times

TritonFunction = Callable[..., Expr]

WHOLE_POWERS = range(1, 5)  # exponents that are printed as products


def _infix(operator: str) -> TritonFunction:
    return lambda a, b: infix(operator, a, b)


def _tl(name: str) -> TritonFunction:
    return lambda x: call(f"tl.{name}", x)


def _arithmetic(name: str) -> TritonFunction:
    return lambda *arguments: call(f"arithmetic.{name}", *arguments)


def _power(a: Expr, b: Expr) -> Expr:
    if isinstance(b, Literal) and b.value in WHOLE_POWERS:
        result = a
        for _ in range(int(b.value) - 1):  # type: ignore[arg-type]
            result = infix("*", result, a)
        return result
    return call("arithmetic.power", *(as_tile(x) if is_numeral(x) else x for x in (a, b)))


def _rescale(x: Expr, centre: Expr, shift: Expr, *factors: Expr) -> Expr:
    result = x if centre == ZERO else infix("-", x, centre)
    for factor in factors:
        result = times(result, factor)
    return plus(result, shift)


FUNCTIONS: Mapping[str, TritonFunction] = {
    "add": _infix("+"),
    "sub": _infix("-"),
    "mul": _infix("*"),
    "div": _infix("/"),
    "pow": _power,
    "neg": lambda a: Unary("-", a),
    "lt": _infix("<"),
    "le": _infix("<="),
    "eq": _infix("=="),
    "ne": _infix("!="),
    "ge": _infix(">="),
    "gt": _infix(">"),
    "sqrt": _tl("sqrt"),
    "root": _tl("sqrt"),
    "rsqrt": _tl("rsqrt"),
    "exp": _tl("exp"),
    "log": _tl("log"),
    "abs": _tl("abs"),
    "sign": _arithmetic("sign"),
    "round": _arithmetic("nearest"),
    "sin": _tl("sin"),
    "cos": _tl("cos"),
    "tanh": _arithmetic("tanh"),
    "erf": _tl("erf"),
    "softplus": _arithmetic("softplus"),
    "min": _arithmetic("smallest"),
    "max": _arithmetic("largest"),
    "where": lambda c, a, b: call("tl.where", c, a, b),
    "rescale": _rescale,
}
assert FUNCTIONS.keys() == PRIMITIVES, FUNCTIONS.keys() ^ PRIMITIVES
