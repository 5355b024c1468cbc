"""MN0704: a variance as a mean of squares less the square of the mean."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from metanorm.diagnostics.lints import DifferenceOfSquares
from metanorm.diagnostics.model import Problem
from metanorm.ir.nodes import Map, Number, Op, Pool, Program, Ref
from metanorm.ir.operands import every_let
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
                same = value is not None and _known(value, low) == _known(mean.value, low)
                if same and _pool(squares, low) == _pool(mean, low) and mean.statistic == "mean":
                    yield DifferenceOfSquares(let.span)


def _square(ref: Ref, ops: Mapping[Ref, Op]) -> Ref | None:
    """What a value is the square of."""
    match ops.get(ref):
        case Map("mul", (a, b)) if a == b:
            return a
        case Map("pow", (base, exponent)) if ops.get(exponent) == Number(Const(2.0)):
            return base
        case _:
            return None


def _pool(pool: Pool, low: Lowering) -> Pool:
    """What is pooled, apart from the value."""
    where, weight = (ref and _known(ref, low) for ref in (pool.where, pool.weight))
    return replace(pool, value="", where=where, weight=weight)


def _known(ref: Ref, low: Lowering) -> Ref:
    """The first binding that computes the same; what a loop carries has none."""
    return low.first_equal.get(ref, ref)
