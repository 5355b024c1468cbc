"""Reduce every statistic to those that a loop can accumulate: sum, mean, variance, min, max.

A second moment is the mean of squared differences, a norm the root of a sum. Printers of loops and
the derivation of gradients then have five cases instead of ten.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.aggregation import Grouping, Window
from metanorm.ir.nodes import Count, Expand, Pool, Ref
from metanorm.ir.ops import ORDERED, POOLED_STATISTICS
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def reductions(program: Program) -> Program:
    """The program with accumulated and ordered statistics only."""
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Pool):
            op = _with_weight_axes(builder, op)
            if op.statistic in ACCUMULATIONS or op.statistic in ORDERED:
                builder.copy(let, op)
            else:
                builder.substitute(let, COMPOSED[op.statistic](_Pooling(builder, op, let.name)))
        elif isinstance(op, Count) and (op.where is not None or op.weight is not None):
            builder.substitute(let, summed(builder, op))
        else:
            builder.copy(let)
    return builder.finish()


def summed(b: Builder, op: Count) -> Ref:
    """A count with a mask or weights, as a sum of weights."""
    value = b.number(1) if op.weight is None else op.weight
    if op.where is not None:
        value = b.map("where", op.where, value, b.number(0))
    own_axes = b.types[value].axes
    # A weight on cells weighs all of their elements.
    weighted = {*own_axes, *map(b.space.base, own_axes)}
    weighted_axes = tuple(pair for pair in op.over if pair[0] in weighted)
    total = b.emit(Pool("sum", value, weighted_axes)) if weighted_axes else value
    others = tuple(
        (axis, _without_padding(m)) for axis, m in op.over if (axis, m) not in weighted_axes
    )
    return b.map("mul", total, b.emit(Count(others))) if others else total


def _without_padding(grouping: Grouping) -> Grouping:
    """The grouping without zero padding: padding has no weight."""
    if isinstance(grouping, Window) and grouping.edge == "zero":
        return replace(grouping, edge="truncate")
    return grouping


@dataclass(frozen=True)
class _Pooling:
    """A statistic to compose of others over the same elements."""

    b: Builder
    op: Pool
    name: Ref

    def of(self, statistic: str, value: Ref, last: bool = False) -> Ref:
        """Bind another statistic; the `last` one has the name of the result."""
        pool = replace(self.op, statistic=statistic, value=value, about=None)
        return self.b.emit(pool, self.name if last else "")

    def map(self, function: str, value: Ref) -> Ref:
        """Bind the result: a function of another statistic."""
        return self.b.map(function, value, name=self.name)

    def squares(self, centre: Ref | None = None) -> Ref:
        """The squared differences of the values from a centre."""
        value = self.op.value
        if centre is not None and self.b.constant_value(centre) != 0:
            value = self.b.map("sub", value, centre)
        return self.b.map("mul", value, value)

    def is_about(self) -> Ref:
        """One where a value is the number that the pool is about, else zero."""
        assert self.op.about is not None
        b = self.b
        return b.map("where", b.map("eq", self.op.value, self.op.about), b.number(1), b.number(0))


# Statistics that are made of accumulated ones, a row for each.
COMPOSED: Mapping[str, Callable[[_Pooling], Ref]] = {
    "second": lambda p: p.of("mean", p.squares(p.op.about), last=True),
    "l1": lambda p: p.of("sum", p.b.map("abs", p.op.value)),
    "l2": lambda p: p.map("root", p.of("sum", p.squares())),
    # Those of a process, whose results are in float64.
    "exact_mean": lambda p: p.of("mean", p.op.value, last=True),
    "exact_var": lambda p: p.of("var", p.op.value, last=True),
    "gaps": lambda p: p.of("sum", p.op.value, last=True),
    "squares": lambda p: p.of("sum", p.squares(p.op.about), last=True),
    "ties": lambda p: p.of("sum", p.is_about(), last=True),
}
COMPUTED = {*ACCUMULATIONS, *COMPOSED, *ORDERED}
assert POOLED_STATISTICS <= COMPUTED, POOLED_STATISTICS - COMPUTED


def _with_weight_axes(b: Builder, op: Pool) -> Pool:
    """The pool with its value expanded to all axes of its mask and weights."""
    weights = [b.types[w].axes for w in (op.where, op.weight) if w is not None]
    joined = b.space.join(b.types[op.value].axes, *weights)
    missing = tuple(a for a in joined if a not in b.types[op.value].axes)
    return replace(op, value=b.emit(Expand(op.value, missing))) if missing else op
