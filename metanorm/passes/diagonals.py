"""Take a variance from the diagonal of a covariance of the same pools, instead of from the data."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeGuard

from metanorm.ir.aggregation import Aggregation, Ones
from metanorm.ir.nodes import Count, Map, Op, Pool, Position, Program, Ref, Rename
from metanorm.passes.builder import Builder
from metanorm.passes.products import is_plain


def diagonals(program: Program) -> Program:
    """The program with variances from covariances of the same pools."""
    covariances = dict(_covariances(program))
    pooled = {(op.value, op.over) for op in program.index.ops.values() if _is_variance(op)}
    if pooled.isdisjoint(covariances):
        return program
    builder = Builder(program)
    for let in program.body:
        op = let.op
        builder.span = let.span
        if _is_variance(op) and (op.value, op.over) in covariances:
            copy = covariances[op.value, op.over]
            builder.substitute(let, _diagonal(builder, op, copy))
        else:
            builder.substitute(let, builder.copy(let))
    return builder.finish()


def _is_variance(op: Op) -> TypeGuard[Pool]:
    return isinstance(op, Pool) and op.statistic == "var" and is_plain(op)


def _covariances(program: Program) -> Iterator[tuple[tuple[Ref, Aggregation], Rename]]:
    """The pools with a covariance: value and pooled axes, and the renamed copy of the value."""
    ops = program.index.ops
    for let in program.body:
        op = let.op
        if not (isinstance(op, Pool) and op.statistic == "sum" and is_plain(op)):
            continue
        match ops[op.value]:
            case Map("mul", (gap, copy)) | Map("mul", (copy, gap)):
                match ops[gap], ops[copy]:
                    case Map("sub", (value, centre)), Rename(same) as renamed if same == gap:
                        if ops[centre] == Pool("mean", value, op.over):
                            yield (value, op.over), renamed


def _diagonal(b: Builder, var: Pool, copy: Rename) -> Ref:
    """The diagonal of the covariance, which is bound here: the old program may bind it later."""
    value, old, new = b.value_map[var.value], copy.old, copy.new
    gap = b.map("sub", value, b.emit(Pool("mean", value, var.over)))
    product = b.map("mul", gap, b.emit(Rename(gap, old, new)))
    total = b.emit(Pool("sum", product, var.over))
    position = b.emit(Position(old))
    same = b.map("eq", position, b.emit(Rename(position, old, new)))
    eye = b.map("where", same, b.number(1), b.number(0), name="%eye")
    squares = b.emit(Pool("sum", b.map("mul", total, eye), ((new, Ones()),)))
    return b.map("div", squares, b.emit(Count(var.over)))
