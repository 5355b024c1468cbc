"""Constructors for the expressions of Triton kernels."""

from __future__ import annotations

import math

from metanorm.targets.python.pyir import (
    Attribute,
    Binary,
    Call,
    Expr,
    Literal,
    Name,
    Slice,
    Subscript,
    Tuple,
)

ZERO, ONE = Literal(0), Literal(1)


def call(function: str, *arguments: Expr, **keywords: Expr) -> Call:
    """`function(arguments, key=value)`."""
    return Call(Name(function), arguments, tuple(keywords.items()))


def cast(value: Expr, dtype: str) -> Expr:
    """`value.to(dtype)`."""
    return Call(Attribute(value, "to"), (Name(dtype),))


def infix(operator: str, left: Expr, right: Expr) -> Expr:
    """`left operator right`."""
    return Binary(operator, (left, right))


def plus(left: Expr, right: Expr) -> Expr:
    """The sum, without a term that is zero."""
    if ZERO in (left, right):
        return right if left == ZERO else left
    return infix("+", left, right)


def minus(left: Expr, right: Expr) -> Expr:
    """The difference, without a zero that is taken away."""
    return left if right == ZERO else infix("-", left, right)


def times(left: Expr, right: Expr) -> Expr:
    """The product, without a factor that is one."""
    if ONE in (left, right):
        return right if left == ONE else left
    return infix("*", left, right)


def both(left: Expr | None, right: Expr | None) -> Expr | None:
    """The conjunction of two conditions. `None` stands for a condition that always holds."""
    if left is None or right is None:
        return left if right is None else right
    return infix("&", left, right)


def number(value: float) -> Expr:
    """A constant of the spec."""
    if math.isnan(value) or math.isinf(value):
        return call("float", Literal(str(value)))
    return Literal(int(value) if value == int(value) and abs(value) < 2**31 else float(value))


def is_numeral(expr: Expr) -> bool:
    """Whether an expression is a number, and not a tensor."""
    return isinstance(expr, Literal) or (isinstance(expr, Call) and expr.function == Name("float"))


def as_tile(value: Expr) -> Expr:
    """A number as a tile with one element."""
    return call("tl.full", Tuple((ONE, ONE)), value, Name("REAL"))


def as_column(value: Expr) -> Expr:
    """A vector as a column of a tile."""
    return Subscript(value, (Slice(), Literal(None)))


def as_row(value: Expr) -> Expr:
    """A vector as a row of a tile."""
    return Subscript(value, (Literal(None), Slice()))


def is_not_none(value: Expr) -> Expr:
    """`value is not None`."""
    return Binary("is not", (value, Literal(None)))
