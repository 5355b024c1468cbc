"""The adjoint of each statistic that loops accumulate: what of that of a result goes to the values
that were pooled, and to their weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.aggregation import Ones, Reach
from metanorm.ir.nodes import Count, Pool, Ref
from metanorm.passes.derivatives import AdjointBuilder


@dataclass(frozen=True)
class Scan:
    """Sums for each position along an axis, over the pools that hold it.

    What is multiplied in a pool cancels at a position where both are large, so that values and
    means are taken from a point near all of them.
    """

    b: AdjointBuilder
    axis: str
    reach: Reach

    def total(self, part: Ref) -> Ref:
        """The sum of a part of each pool."""
        return self.b.emit(Pool("sum", part, ((self.axis, self.reach),)))

    def gaps(self, part: Ref, value: Ref, mean: Ref) -> Ref:
        """The sum of a part times how far the value is from the mean of each pool."""
        value, mean = self._nearer(value, mean)
        once = self.b.map("mul", value, self.total(part))
        return self.b.map("sub", once, self.total(self.b.map("mul", part, mean)))

    def squares(self, part: Ref, value: Ref, mean: Ref) -> Ref:
        """The sum of a part times the square of how far the value is from the mean of each pool."""
        b, (value, mean) = self.b, self._nearer(value, mean)
        with_mean = b.map("mul", part, mean)
        once = b.map("mul", b.map("mul", value, value), self.total(part))
        twice = b.map("mul", b.map("mul", b.number(2), value), self.total(with_mean))
        return b.map("add", b.map("sub", once, twice), self.total(b.map("mul", with_mean, mean)))

    def _nearer(self, value: Ref, mean: Ref) -> tuple[Ref, Ref]:
        """Both from the mean of the means that are finite: NaN must not leave its pools."""
        b, zero = self.b, self.b.number(0)
        finite = b.map("eq", b.map("mul", mean, zero), zero)
        known = b.map("where", finite, mean, zero)
        near = b.emit(Pool("mean", known, ((self.axis, Ones()),)))
        return b.map("sub", value, near), b.map("sub", mean, near)


@dataclass
class PoolAdjoint:
    """A pool, its result, and the adjoint `d` of that; `mean` is the mean of the same elements,
    where it is known. All names are those of the program that is being built."""

    b: AdjointBuilder
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
        found = row.excess(self, self.d if self.pool.statistic == "sum" else self.share)
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

    # ---- pools that overlap: a value has the sum over all that hold it

    @property
    def scan(self) -> Scan | None:
        """Where pools overlap: the scan that adds up for each position what its pools have."""
        for axis, matrix in self.pool.over:
            if isinstance(matrix, Reach):
                return Scan(self.b, axis, matrix.mirrored)
        return None

    def spread(self, part: Ref) -> Ref:
        """What each pool has, at the positions of its values."""
        return part if self.scan is None else self.scan.total(part)

    def gaps(self, part: Ref, mean: Ref) -> Ref:
        """A part of each pool, times how far each value is from the mean there."""
        if self.scan is None:
            return self.b.map("mul", part, self.b.map("sub", self.counted, mean))
        return self.scan.gaps(part, self.counted, mean)


@dataclass(frozen=True)
class Adjoint:
    """A row: the adjoint of a value, and how much more than the result an element has, by which
    its weight moves the result."""

    value: Callable[[PoolAdjoint], Ref]
    excess: Callable[[PoolAdjoint, Ref], Ref] | None = None


def _var(a: PoolAdjoint) -> Ref:
    share, two = a.share, a.b.number(2)
    if a.scan is None:
        return a.b.times(a.b.map("mul", two, share), a.gap)
    assert a.mean is not None
    return a.b.map("mul", two, a.gaps(share, a.mean))


def _excess_of_var(a: PoolAdjoint, part: Ref) -> Ref:
    if a.scan is None:
        excess = a.b.map("sub", a.b.map("mul", a.gap, a.gap), a.result)
        return a.b.map("mul", part, excess)
    assert a.mean is not None
    squares = a.scan.squares(part, a.counted, a.mean)
    return a.b.map("sub", squares, a.scan.total(a.b.map("mul", part, a.result)))


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
    "sum": Adjoint(
        lambda a: a.spread(a.d), lambda a, part: a.b.map("mul", a.spread(part), a.counted)
    ),
    "mean": Adjoint(lambda a: a.spread(a.share), lambda a, part: a.gaps(part, a.result)),
    "var": Adjoint(_var, _excess_of_var),
    "max": Adjoint(_extreme),
    "min": Adjoint(_extreme),
}
assert ADJOINTS.keys() == ACCUMULATIONS.keys(), "a statistic without an adjoint"
