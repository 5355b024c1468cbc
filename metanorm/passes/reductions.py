"""Every statistic becomes one of those that a loop can accumulate: sum, mean, variance, extremes.

A second moment is the mean of squares of differences, a norm the root of a sum. Whoever
prints loops, or derives them, then has five cases instead of ten.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Count, Expand, Pool, Program, Ref
from metanorm.ir.rename import renamed
from metanorm.passes.builder import Builder

ACCUMULATED = ("sum", "mean", "var", "max", "min")


def reductions(program: Program) -> Program:
    """The program with statistics of `ACCUMULATED` alone."""
    builder = Builder(program)
    for let in program.body:
        op = renamed(let.op, builder.moved)
        builder.span = let.span
        if isinstance(op, Pool):
            op = _as_large(builder, op)
            if op.statistic in ACCUMULATED:
                builder.take(let, op)
            else:
                builder.forward(let, _accumulated(builder, op, let.name))
        elif isinstance(op, Count) and (op.where is not None or op.weight is not None):
            builder.forward(let, _summed(builder, op))
        else:
            builder.take(let)
    return builder.finish()


def _summed(b: Builder, op: Count) -> Ref:
    """A count of what weighs differently, as the sum of the weights."""
    value = b.number(1) if op.weight is None else op.weight
    if op.where is not None:
        value = b.map("where", op.where, value, b.number(0))
    present = tuple(pair for pair in op.over if pair[0] in b.types[value].axes)
    total = b.emit(Pool("sum", value, present)) if present else value
    rest = tuple(pair for pair in op.over if pair not in present)
    return b.map("mul", total, b.emit(Count(rest))) if rest else total


def _accumulated(b: Builder, op: Pool, name: Ref) -> Ref:
    def pool(statistic: str, value: Ref, name: Ref = "") -> Ref:
        return b.emit(replace(op, statistic=statistic, value=value, about=None), name)

    def squares(centre: Ref | None) -> Ref:
        away = centre is not None and b.constant(centre) != 0
        value = b.map("sub", op.value, centre) if away and centre is not None else op.value
        return b.map("mul", value, value)

    match op.statistic:
        case "second":
            return pool("mean", squares(op.about), name)
        case "rms":
            return b.map("root", pool("mean", squares(None)), name=name)
        case "std":
            return b.map("root", pool("var", op.value), name=name)
        case "l1":
            return pool("sum", b.map("abs", op.value), name)
        case "l2":
            return b.map("root", pool("sum", squares(None)), name=name)
        case other:
            raise NotImplementedError(other)


def _as_large(b: Builder, op: Pool) -> Pool:
    """The pool of a value that has all axes of its weights, as it is read that often."""
    weights = [b.types[w].axes for w in (op.where, op.weight) if w is not None]
    joined = b.space.join(b.types[op.value].axes, *weights)
    lacking = tuple(a for a in joined if a not in b.types[op.value].axes)
    return replace(op, value=b.emit(Expand(op.value, lacking))) if lacking else op
