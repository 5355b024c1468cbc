"""Which values are integral numbers whatever the data is: positions, lengths, sums of them."""

from __future__ import annotations

from collections.abc import Container

from metanorm.ir.nodes import Detach, Expand, Map, Number, Op, Position, Ref, Rename
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

KEEPING = ("add", "sub", "mul", "neg", "min", "max", "abs", "floordiv")
ROUNDING = ("floor", "ceil")


def is_integral(op: Op, integral: Container[Ref], integers: Container[str]) -> bool:
    """Whether an operation gives integral numbers.

    `integral` are the values before it that are known to be, `integers` such hyperparameters.
    """
    match op:
        case Position():
            return True
        case Number(scalar):
            return _is_whole(scalar, integers)
        case Map(function, arguments):
            return function in KEEPING and all(argument in integral for argument in arguments)
        case Rename(value=value) | Expand(value=value) | Detach(value=value):
            return value in integral
        case _:
            return False


def _is_whole(scalar: Scalar, integers: Container[str]) -> bool:
    match scalar:
        case Const(value):
            return value == int(value) if abs(value) < 2**53 else False
        case Hyper(name):
            return name in integers
        case SizeOf():
            return True
        case Apply(function, arguments):
            inner = function in KEEPING and all(_is_whole(a, integers) for a in arguments)
            return function in ROUNDING or inner
