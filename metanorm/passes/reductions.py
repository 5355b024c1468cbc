"""Every statistic becomes one of those that a loop can accumulate: sum, mean, variance, extremes.

A second moment is the mean of squares of differences, a norm the root of a sum. Whoever
prints loops, or derives them, then has five cases instead of ten.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Let, Pool, Program, Ref
from metanorm.ir.rename import renamed
from metanorm.passes.builder import Builder

ACCUMULATED = ("sum", "mean", "var", "max", "min")


def reductions(program: Program) -> Program:
    """The program with statistics of `ACCUMULATED` alone."""
    builder = Builder(program)
    for let in program.body:
        op = renamed(let.op, builder.moved)
        if isinstance(op, Pool) and op.statistic not in ACCUMULATED:
            builder.span = let.span
            builder.forward(let, _accumulated(builder, op, let))
        else:
            builder.take(let)
    return builder.finish()


def _accumulated(b: Builder, op: Pool, let: Let) -> Ref:
    def pool(statistic: str, value: Ref) -> Ref:
        return b.emit(replace(op, statistic=statistic, value=value, about=None), let.name)

    def squares(centre: Ref | None) -> Ref:
        value = op.value if centre is None or b.constant(centre) == 0 else b.map(
            "sub", op.value, centre
        )
        return b.map("mul", value, value)

    match op.statistic:
        case "second":
            return pool("mean", squares(op.about))
        case "rms":
            return b.map("root", pool("mean", squares(None)), name=let.name)
        case "std":
            return b.map("root", pool("var", op.value), name=let.name)
        case "l1":
            return pool("sum", b.map("abs", op.value))
        case "l2":
            return b.map("root", pool("sum", squares(None)), name=let.name)
        case other:
            raise NotImplementedError(other)
