"""Which values are whole numbers for any data: positions, lengths, and sums of them."""

from __future__ import annotations

from collections.abc import Container

from metanorm.ir.nodes import Detach, Expand, Map, Number, Op, Position, Ref, Rename
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

CLOSED_FUNCTIONS = ("add", "sub", "mul", "neg", "min", "max", "abs", "floordiv")
ROUNDING_FUNCTIONS = ("floor", "ceil")


def is_integral(op: Op, integral_values: Container[Ref], integer_hypers: Container[str]) -> bool:
    """Whether an operation gives whole numbers. `integral_values` and `integer_hypers` are such."""
    match op:
        case Position():
            return True
        case Number(scalar):
            return _is_integral_scalar(scalar, integer_hypers)
        case Map(function, arguments):
            return function in CLOSED_FUNCTIONS and all(
                argument in integral_values for argument in arguments
            )
        case Rename(value=value) | Expand(value=value) | Detach(value=value):
            return value in integral_values
        case _:
            return False


def _is_integral_scalar(scalar: Scalar, integer_hypers: Container[str]) -> bool:
    match scalar:
        case Const(value):
            return value == int(value) if abs(value) < 2**53 else False
        case Hyper(name):
            return name in integer_hypers
        case SizeOf():
            return True
        case Apply(function, arguments):
            is_closed = function in CLOSED_FUNCTIONS and all(
                _is_integral_scalar(a, integer_hypers) for a in arguments
            )
            return function in ROUNDING_FUNCTIONS or is_closed
