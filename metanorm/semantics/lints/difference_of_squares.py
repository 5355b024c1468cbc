"""MN0704: a variance as a mean of squares less the square of the mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from metanorm.diagnostics.lints import DifferenceOfSquares
from metanorm.diagnostics.model import Problem
from metanorm.ir.nodes import Map, Number, Op, Pool, Ref
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.ir.scalar import Const
from metanorm.semantics.lowering import CallScope, Lowering


def difference_of_squares(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """One warning for each difference of this form, of the same value over the same pool."""
    ops = {let.name: let.op for let in every_let(program.body)}
    for let in every_let(program.body):
        match let.op:
            case Map("sub", (first, second)):
                squares, mean = ops.get(first), ops.get(_square(second, ops) or "")
                if not isinstance(squares, Pool) or not isinstance(mean, Pool):
                    continue
                value = _square(squares.value, ops)
                same = value is not None and _first_equal(value, low) == _first_equal(
                    mean.value, low
                )
                if (
                    same
                    and _without_value(squares, low) == _without_value(mean, low)
                    and mean.statistic == "mean"
                ):
                    yield DifferenceOfSquares(let.span)


def _square(ref: Ref, ops: Mapping[Ref, Op]) -> Ref | None:
    """The value of which another one is the square; `None` for others."""
    match ops.get(ref):
        case Map("mul", (a, b)) if a == b:
            return a
        case Map("pow", (base, exponent)) if ops.get(exponent) == Number(Const(2.0)):
            return base
        case _:
            return None


def _without_value(pool: Pool, low: Lowering) -> Pool:
    """The pool without its value, for comparisons."""
    where, weight = (ref and _first_equal(ref, low) for ref in (pool.where, pool.weight))
    return replace(pool, value="", where=where, weight=weight)


def _first_equal(ref: Ref, low: Lowering) -> Ref:
    """The first binding that computes the same; a value carried by a loop itself."""
    return low.first_equal.get(ref, ref)
