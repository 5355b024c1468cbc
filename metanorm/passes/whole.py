"""Which values are whole numbers whatever the data is: positions, lengths, sums of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from metanorm.ir.nodes import Expand, Map, Number, Position, Ref, Rename, Stop
from metanorm.ir.scalar import Apply, Const, Hyper, Scalar, SizeOf

if TYPE_CHECKING:
    from metanorm.passes.builder import Builder

KEEPING = ("add", "sub", "mul", "neg", "min", "max", "abs", "floordiv")
ROUNDING = ("floor", "ceil")


def is_whole(builder: Builder, ref: Ref) -> bool:
    """Whether a value is known to be whole."""
    match builder.ops.get(ref):
        case Position():
            return True
        case Number(scalar):
            integers = {a.name for a in builder.program.arguments if a.type in ("int", "size")}
            return _is_whole(scalar, integers)
        case Map(function, arguments) if function in KEEPING:
            return all(is_whole(builder, argument) for argument in arguments)
        case Rename(value=value) | Expand(value=value) | Stop(value=value):
            return is_whole(builder, value)
        case _:
            return False


def _is_whole(scalar: Scalar, integers: set[str]) -> bool:
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
