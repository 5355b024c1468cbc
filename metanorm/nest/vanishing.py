"""Find pools whose terms are zero wherever a factor is zero, so that loops can skip those terms."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.ir.nodes import Detach, Expand, Let, Map, Number, Pool, Ref
from metanorm.ir.scalar import Const

Lets = Mapping[Ref, Let]


def vanishes_with(lets: Lets, op: Pool, factor: Ref) -> bool:
    """Whether a pool adds and counts nothing wherever `factor` is zero."""
    weighed = op.weight is not None and _vanishes(lets, op.weight, factor)
    return weighed or (op.statistic == "sum" and _vanishes(lets, op.value, factor))


def _vanishes(lets: Lets, ref: Ref, factor: Ref) -> bool:
    """Whether a value is zero wherever `factor` is zero."""
    if ref == factor or _is_zero(lets, ref):
        return True
    match lets[ref].op:
        case Map("mul", arguments):
            return any(_vanishes(lets, a, factor) for a in arguments)
        case Map("add" | "sub" | "neg", arguments):
            return all(_vanishes(lets, a, factor) for a in arguments)
        case Map("div", (dividend, _)):
            return _vanishes(lets, dividend, factor)
        case Map("where", (condition, first, second)):
            if _is_nonzero(lets, condition, factor):
                return _vanishes(lets, second, factor)
            return all(_vanishes(lets, a, factor) for a in (first, second))
        case Expand(value) | Detach(value):
            return _vanishes(lets, value, factor)
        case _:
            return False


def _is_zero(lets: Lets, ref: Ref) -> bool:
    return lets[ref].op == Number(Const(0))


def _is_nonzero(lets: Lets, ref: Ref, factor: Ref) -> bool:
    """Whether a condition tests `value != 0` for a value that vanishes with `factor`."""
    match lets[ref].op:
        case Map("ne", (value, zero)):
            return _is_zero(lets, zero) and _vanishes(lets, value, factor)
    return False
