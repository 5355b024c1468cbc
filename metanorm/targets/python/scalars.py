"""The Python expression of each function of scalars, which are Python's numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metanorm.ir.scalar import FUNCTIONS, SYMBOLS
from metanorm.targets.python.pyir import Binary, Call, Expr, Name, Unary


def _infix(operator: str) -> Callable[..., Expr]:
    return lambda a, b: Binary(operator, (a, b))


def _named(name: str) -> Callable[..., Expr]:
    return lambda *arguments: Call(Name(name), arguments)


SCALAR_FUNCTIONS: Mapping[str, Callable[..., Expr]] = {
    **{name: _infix(symbol) for name, symbol in SYMBOLS.items()},
    **{name: _named(name) for name in ("abs", "min", "max")},
    **{name: _named(f"math.{name}") for name in ("sqrt", "exp", "log", "floor", "ceil")},
    "pow": _infix("**"),
    "neg": lambda a: Unary("-", a),
}
assert SCALAR_FUNCTIONS.keys() == FUNCTIONS.keys(), SCALAR_FUNCTIONS.keys() ^ FUNCTIONS.keys()
