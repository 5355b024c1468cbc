"""The adjoint of each accumulated statistic: from the adjoint of a result to the adjoints of the
pooled values and of their weights."""

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
    """Sums over the pools that contain a position, for each position of an axis.

    A difference of two large sums would cancel. So both values and means are first shifted by a
    number near all means of the axis, or of the segment that pools stay within.
    """

    b: AdjointBuilder
    axis: str
    reach: Reach

    def total(self, part: Ref) -> Ref:
        """The sum of a value of each pool."""
        return self.b.emit(Pool("sum", part, ((self.axis, self.reach),)))

    def deviations(self, part: Ref, value: Ref, mean: Ref) -> Ref:
        """The sum of part * (value - mean) over the pools."""
        value, mean = self._shifted(value, mean)
        once = self.b.map("mul", value, self.total(part))
        return self.b.map("sub", once, self.total(self.b.map("mul", part, mean)))

    def squares(self, part: Ref, value: Ref, mean: Ref) -> Ref:
        """The sum of part * (value - mean)^2 over the pools."""
        b, (value, mean) = self.b, self._shifted(value, mean)
        with_mean = b.map("mul", part, mean)
        once = b.map("mul", b.map("mul", value, value), self.total(part))
        twice = b.map("mul", b.map("mul", b.number(2), value), self.total(with_mean))
        return b.map("add", b.map("sub", once, twice), self.total(b.map("mul", with_mean, mean)))

    def _shifted(self, value: Ref, mean: Ref) -> tuple[Ref, Ref]:
        """Value and mean less the mean of all finite means: a NaN must not leave its pools."""
        b, zero = self.b, self.b.number(0)
        finite = b.map("eq", b.map("mul", mean, zero), zero)
        finite_mean = b.map("where", finite, mean, zero)
        segment = Reach(None, None, self.reach.within)
        over = ((self.axis, segment if segment.within is not None else Ones()),)
        # Parts of a mean, since kernels add up in any direction.
        shift = b.emit(Pool("sum", b.map("div", finite_mean, b.emit(Count(over))), over))
        return b.map("sub", value, shift), b.map("sub", mean, shift)


@dataclass
class PoolAdjoint:
    """A pool, its result, the adjoint `d` of the result, and the mean of the same elements.

    `mean` is `None` where the program has none. All names are those of the program under
    construction.
    """

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
            if not ACCUMULATIONS[pool.statistic].weighs or self._meets_nan_of_others:
                part = self.b.map("where", self.weighs, part, self.b.number(0))
        if pool.where is not None:
            part = self.b.map("where", pool.where, part, self.b.number(0))
        return part

    def of_weight(self) -> Ref | None:
        """The adjoint of the weights; `None` if their size does not change the statistic."""
        row = ADJOINTS[self.pool.statistic]
        if row.excess is None:
            return None
        adjoint = row.excess(self, self.d if self.pool.statistic == "sum" else self.share)
        if self.pool.where is None:
            return adjoint
        return self.b.map("where", self.pool.where, adjoint, self.b.number(0))

    @cached_property
    def share(self) -> Ref:
        """The adjoint divided by the total weight of its pool; zero in an empty pool."""
        pool = self.pool
        total = self.b.emit(Count(pool.over, pool.where, pool.weight))
        part = self.b.map("div", self.d, total)
        if pool.weight is None:  # `of_value` masks the rest
            return part
        zero = self.b.number(0)
        return self.b.map("where", self.b.map("eq", total, zero), zero, part)

    @property
    def _meets_nan_of_others(self) -> bool:
        """Whether NaN of pools that do not hold an element reach its part: a scan centres all."""
        return self.scan is not None and self.pool.value in self.b.exposed

    @property
    def weighs(self) -> Ref:
        """Whether the weight of an element is not zero."""
        assert self.pool.weight is not None
        return self.b.map("ne", self.pool.weight, self.b.number(0))

    @property
    def counted_values(self) -> Ref:
        """The pooled values; those of weight zero are zero where they are not finite."""
        b, value = self.b, self.pool.value
        if self.pool.weight is None or value not in b.exposed:
            return value
        zero = b.number(0)
        finite = b.map("eq", b.map("mul", value, zero), zero)
        return b.map("where", self.weighs, value, b.map("where", finite, value, zero))

    @property
    def deviation(self) -> Ref:
        """Each value less the mean of its pool."""
        assert self.mean is not None
        return self.b.map("sub", self.counted_values, self.mean)

    # ---- overlapping pools: a value gets the sum over all pools that contain it

    @property
    def scan(self) -> Scan | None:
        """For overlapping pools: the scan that sums, at a position, over the pools around it."""
        for axis, matrix in self.pool.over:
            if isinstance(matrix, Reach):
                return Scan(self.b, axis, matrix.mirrored)
        return None

    def spread(self, part: Ref) -> Ref:
        """A value of each pool, at the positions of its elements."""
        return part if self.scan is None else self.scan.total(part)

    def deviations(self, part: Ref, mean: Ref) -> Ref:
        """part * (value - mean), at the positions of the elements."""
        if self.scan is None:
            return self.b.map("mul", part, self.b.map("sub", self.counted_values, mean))
        return self.scan.deviations(part, self.counted_values, mean)


@dataclass(frozen=True)
class Adjoint:
    """A row: the adjoint of the pooled values, and the adjoint of their weights from the share.

    The share is the adjoint of the result divided by the total weight (for `sum`, the adjoint).
    """

    value: Callable[[PoolAdjoint], Ref]
    excess: Callable[[PoolAdjoint, Ref], Ref] | None = None


def _var(a: PoolAdjoint) -> Ref:
    share, two = a.share, a.b.number(2)
    if a.scan is None:
        return a.b.times(a.b.map("mul", two, share), a.deviation)
    assert a.mean is not None
    return a.b.map("mul", two, a.deviations(share, a.mean))


def _excess_of_var(a: PoolAdjoint, part: Ref) -> Ref:
    if a.scan is None:
        excess = a.b.map("sub", a.b.map("mul", a.deviation, a.deviation), a.result)
        return a.b.map("mul", part, excess)
    assert a.mean is not None
    squares = a.scan.squares(part, a.counted_values, a.mean)
    return a.b.map("sub", squares, a.scan.total(a.b.map("mul", part, a.result)))


def _extreme(a: PoolAdjoint) -> Ref:
    """Equal extremes share the adjoint. As with `torch.amax`, it is NaN where the result is NaN, or
    where the adjoint is not finite."""
    b, pool = a.b, a.pool
    one, zero = b.number(1), b.number(0)
    is_extreme = b.map("where", b.map("eq", pool.value, a.result), one, zero)
    if pool.weight is not None:
        is_extreme = b.map("where", a.weighs, is_extreme, zero)
    ties = b.emit(Pool("sum", is_extreme, pool.over, where=pool.where))
    return b.map("mul", is_extreme, b.map("div", a.d, ties))


ADJOINTS: Mapping[str, Adjoint] = {
    "sum": Adjoint(
        lambda a: a.spread(a.d), lambda a, part: a.b.map("mul", a.spread(part), a.counted_values)
    ),
    "mean": Adjoint(lambda a: a.spread(a.share), lambda a, part: a.deviations(part, a.result)),
    "var": Adjoint(_var, _excess_of_var),
    "max": Adjoint(_extreme),
    "min": Adjoint(_extreme),
}
assert ADJOINTS.keys() == ACCUMULATIONS.keys(), "a statistic without an adjoint"
