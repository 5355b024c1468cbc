"""Take a variance from the diagonal of a covariance of the same pools, instead of from the data."""

from __future__ import annotations

from typing import TypeGuard

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Count, Op, Pool, Position, Program, Ref, Rename
from metanorm.passes.builder import Builder
from metanorm.passes.products import ProductFactors, covariances, is_plain, product_about_mean


def diagonals(program: Program) -> Program:
    """The program with variances from covariances of the same pools."""
    factors_by_pool = {(c.factors.value, c.factors.over): c.factors for c in covariances(program)}
    pooled = {(op.value, op.over) for op in program.index.ops.values() if _is_variance(op)}
    if pooled.isdisjoint(factors_by_pool):
        return program
    builder = Builder(program)
    for let in program.body:
        op = let.op
        if _is_variance(op) and (op.value, op.over) in factors_by_pool:
            builder.span = let.span
            builder.substitute(let, _diagonal(builder, factors_by_pool[op.value, op.over]))
        else:  # what is bound already, for a diagonal, takes the name that the spec has for it
            builder.substitute(let, builder.copy(let))
    return builder.finish()


def _is_variance(op: Op) -> TypeGuard[Pool]:
    return isinstance(op, Pool) and op.statistic == "var" and is_plain(op)


def _diagonal(b: Builder, factors: ProductFactors) -> Ref:
    """The diagonal of the covariance, which is bound here: the old program may bind it later."""
    total = product_about_mean(b, factors)
    position = b.emit(Position(factors.old))
    same = b.map("eq", position, b.emit(Rename(position, factors.old, factors.new)))
    eye = b.map("where", same, b.number(1), b.number(0), name="%eye")
    squares = b.emit(Pool("sum", b.map("mul", total, eye), ((factors.new, Ones()),)))
    return b.map("div", squares, b.emit(Count(factors.over)))
