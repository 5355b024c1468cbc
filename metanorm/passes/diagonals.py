"""Take a variance from the diagonal of a covariance of the same pools, instead of from the data.

That is done where all that is made of the variance is made of the covariance, too, in every call.
Otherwise a call that asks for variances alone would have a covariance computed, and a NaN of one
channel would reach the gradients of all others.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from metanorm.ir.aggregation import Ones
from metanorm.ir.dependents import constant_dependents, dependents
from metanorm.ir.nodes import Count, Let, Op, Pool, Position, Ref, Rename
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder
from metanorm.passes.products import ProductFactors, covariances, is_plain, product_about_mean


def diagonals(program: Program) -> Program:
    """The program with variances from covariances of the same pools."""
    factors_by_variance = dict(_diagonals(program))
    if not factors_by_variance:
        return program
    builder = Builder(program)
    for let in program.body:
        if let.name in factors_by_variance:
            builder.span = let.span
            builder.substitute(let, _diagonal(builder, factors_by_variance[let.name]))
        else:  # what is bound already, for a diagonal, takes the name that the spec has for it
            builder.substitute(let, builder.copy(let))
    return builder.finish()


def _diagonals(program: Program) -> Iterator[tuple[Ref, ProductFactors]]:
    """The variances that are diagonals, and what they are the diagonals of."""
    results = {ref for _, ref in program.outputs} | {update.value for update in program.updates}
    variances = [let for let in program.body if _is_variance(let.op)]
    for covariance in covariances(program) if variances else ():
        for let in variances:
            if _pools(let) == (covariance.factors.value, covariance.factors.over):
                made_of_variance = results & dependents(program, let.name)
                if made_of_variance <= constant_dependents(program, covariance.name):
                    yield let.name, covariance.factors


def _is_variance(op: Op) -> TypeGuard[Pool]:
    return isinstance(op, Pool) and op.statistic == "var" and is_plain(op)


def _pools(let: Let) -> tuple[Ref, object]:
    assert isinstance(let.op, Pool)
    return let.op.value, let.op.over


def _diagonal(b: Builder, factors: ProductFactors) -> Ref:
    """The diagonal of the covariance, which is bound here: the old program may bind it later."""
    total = product_about_mean(b, factors)
    position = b.emit(Position(factors.old))
    copy = b.emit(Rename(position, factors.old, factors.new))
    same = b.map("eq", position, copy, name="%on_diagonal")
    # A product with an identity matrix would have a NaN beside the diagonal.
    diagonal = b.map("where", same, total, b.number(0), name="%diagonal")
    squares = b.emit(Pool("sum", diagonal, ((factors.new, Ones()),)))
    return b.map("div", squares, b.emit(Count(factors.over)))
