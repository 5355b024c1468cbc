"""The adjoint of each statistic that loops accumulate: what of that of a result goes to the values
that were pooled, and to their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.nodes import Count, Pool, Ref
from metanorm.passes.derivatives import Deriver


@dataclass
class PoolAdjoint:
    """A pool, its result, and the adjoint `d` of that; `mean` is the mean of the same elements,
    where it is known. All names are those of the program that is being built."""

    b: Deriver
    pool: Pool
    result: Ref
    d: Ref
    mean: Ref | None

    def of_value(self) -> Ref:
        """The adjoint of the values."""
        part, pool = ADJOINTS[self.pool.statistic].value(self), self.pool
        if pool.weight is not None:
            if ACCUMULATIONS[pool.statistic].weighs:
                part = self.b.map("mul", part, pool.weight)
            else:
                part = self.b.map("where", self.weighs, part, self.b.number(0))
        if pool.where is not None:
            part = self.b.map("where", pool.where, part, self.b.number(0))
        return part

    def of_weight(self) -> Ref | None:
        """That of the weights, each a share of what it has more than the result; `None` where it
        does not matter how much an element weighs."""
        row = ADJOINTS[self.pool.statistic]
        if row.excess is None:
            return None
        part = self.d if self.pool.statistic == "sum" else self.share
        found = self.b.map("mul", part, row.excess(self))
        if self.pool.where is None:
            return found
        return self.b.map("where", self.pool.where, found, self.b.number(0))

    @cached_property
    def share(self) -> Ref:
        """The adjoint by the weight of its pool; zero where that is zero, as nothing is pooled."""
        pool = self.pool
        total = self.b.emit(Count(pool.over, pool.where, pool.weight))
        part = self.b.map("div", self.d, total)
        if pool.weight is None:  # what a mask leaves out gets nothing anyway
            return part
        zero = self.b.number(0)
        return self.b.map("where", self.b.map("eq", total, zero), zero, part)

    @property
    def weighs(self) -> Ref:
        """Whether an element has a weight."""
        assert self.pool.weight is not None
        return self.b.map("ne", self.pool.weight, self.b.number(0))

    @property
    def counted(self) -> Ref:
        """The values of a pool; what weighs nothing is zero where it is not finite."""
        b, value = self.b, self.pool.value
        if self.pool.weight is None or value not in b.exposed:
            return value
        zero = b.number(0)
        finite = b.map("eq", b.map("mul", value, zero), zero)
        return b.map("where", self.weighs, value, b.map("where", finite, value, zero))

    @property
    def gap(self) -> Ref:
        """How far each value is from the mean of its pool."""
        assert self.mean is not None
        return self.b.map("sub", self.counted, self.mean)


@dataclass(frozen=True)
class Adjoint:
    """A row: the adjoint of a value, and how much more than the result an element has, by which
    its weight moves the result."""

    value: Callable[[PoolAdjoint], Ref]
    excess: Callable[[PoolAdjoint], Ref] | None = None


def _var(a: PoolAdjoint) -> Ref:
    share = a.share
    return a.b.times(a.b.map("mul", a.b.number(2), share), a.gap)


def _excess_of_var(a: PoolAdjoint) -> Ref:
    return a.b.map("sub", a.b.map("mul", a.gap, a.gap), a.result)


def _extreme(a: PoolAdjoint) -> Ref:
    """Equal ones share it. It is NaN where the result is, or where it is not finite itself, as
    that of `torch.amax` is."""
    b, pool = a.b, a.pool
    one, zero = b.number(1), b.number(0)
    chosen = b.map("where", b.map("eq", pool.value, a.result), one, zero)
    if pool.weight is not None:
        chosen = b.map("where", a.weighs, chosen, zero)
    ties = b.emit(Pool("sum", chosen, pool.over, where=pool.where))
    return b.map("mul", chosen, b.map("div", a.d, ties))


ADJOINTS: Mapping[str, Adjoint] = {
    "sum": Adjoint(lambda a: a.d, lambda a: a.counted),
    "mean": Adjoint(lambda a: a.share, lambda a: a.b.map("sub", a.counted, a.result)),
    "var": Adjoint(_var, _excess_of_var),
    "max": Adjoint(_extreme),
    "min": Adjoint(_extreme),
}
assert ADJOINTS.keys() == ACCUMULATIONS.keys(), "a statistic without an adjoint"
