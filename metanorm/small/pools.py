"""Statistics, from the positions that each pool holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from metanorm.ir.nodes import Count, Pool, Type
from metanorm.ir.ops import POOLED_STATISTICS
from metanorm.small.functions import quotient, square_root, unbiased
from metanorm.small.groupings import Row, pool_rows
from metanorm.small.tensor import indices
from metanorm.small.values import Position, Values

MAX_STEPS = 500_000  # products of a weight and a value: a second


class TooLarge(Exception):
    """A value takes too many steps; the message names it."""


class Pools:
    """Pools over the values of a run."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.space = values.space

    def joined(self, op: Pool | Count) -> tuple[list[str], list[str]]:
        """All axes of the pooled values, with pooled axes in place of cells, and the kept axes."""
        pooled = {axis for axis, _ in op.over}
        refs = [op.value, op.where, op.weight] if isinstance(op, Pool) else [op.where, op.weight]
        axes = pooled | {a for ref in refs if ref is not None for a in self.values.types[ref].axes}
        bases = {a: self.space.base(a) for a in axes}
        full = {bases[a] if bases[a] in pooled and a not in pooled else a for a in axes}
        joined = list(self.space.join(*((axis,) for axis in full)))
        return joined, [axis for axis in joined if axis not in pooled]

    def rows(self, op: Pool | Count, axis: str) -> list[Row]:
        """The row of each pool along one of the pooled axes."""
        groupings = dict(op.over)
        grouping = groupings.get(axis) or groupings[self.space.base(axis)]
        return pool_rows(grouping, self.values.size(axis), self.values.call)

    def coefficients(
        self, op: Pool | Count, pool: Mapping[str, Row], at: Position
    ) -> Iterator[tuple[Position, bool, float]]:
        """What a pool holds: positions, whether they are inside of all axes, and coefficients.

        `pool` has its row along each pooled axis, `at` its position on the kept axes. What is left
        out or weighs nothing is not named.
        """
        for entries in product(*(row.items() for row in pool.values())):
            place = {**at, **{axis: position for axis, (position, _) in zip(pool, entries)}}
            inside = all(position < self.values.size(axis) for axis, position in place.items())
            coefficient = math.prod(weight for _, weight in entries)
            if op.where is not None:
                coefficient = (
                    coefficient if inside and self.values.element(op.where, place) else 0.0
                )
            if op.weight is not None and coefficient:
                coefficient *= self.values.element(op.weight, place) if inside else 0.0
            if coefficient:
                yield place, inside, coefficient

    def result(self, op: Pool | Count, type_: Type, name: str) -> list[float]:
        """The statistic of each pool, or what it counts."""
        joined, kept = self.joined(op)
        rows = {axis: self.rows(op, axis) for axis in joined if axis not in kept}
        steps = math.prod(sum(map(len, rows_of_axis)) for rows_of_axis in rows.values())
        if steps * math.prod(self.values.sizes(kept)) > MAX_STEPS:
            raise TooLarge(name)
        # A pooled axis has one pool, or a cell axis for its pools, or its own positions.
        groupings = dict(op.over)
        cell_axes = {a: self.space.pooled_axes((a,), ((a, groupings[a]),)) for a in rows}
        elements = []
        for index in indices(self.values.sizes(kept)):
            at = dict(zip(kept, index))
            for pool in indices([len(rows_of_axis) for rows_of_axis in rows.values()]):
                rows_of_pool = {axis: rows[axis][rank] for axis, rank in zip(rows, pool)}
                members = list(self.coefficients(op, rows_of_pool, at))
                cells = {c: rank for a, rank in zip(rows, pool) for c in cell_axes[a]}
                elements.append(self._statistic(op, members, {**at, **cells}))
        axes = [*kept, *(cell for axis in rows for cell in cell_axes[axis])]
        return self.values.spread(elements, axes, type_.axes)

    def _statistic(
        self, op: Pool | Count, members: Sequence[tuple[Position, bool, float]], at: Position
    ) -> float:
        """The statistic of one pool, whose result is at a position."""
        total = float(sum(weight for _, _, weight in members))
        if isinstance(op, Count):
            return total
        pairs = [
            (weight, self.values.element(op.value, place) if inside else 0.0)
            for place, inside, weight in members
        ]
        centre = self.values.element(op.about, at) if op.about is not None else None
        share = self.values.call.number(op.share) if op.share is not None else None
        return STATISTICS[op.statistic](_Members(pairs, total, bool(op.ddof), centre, share))


@dataclass(frozen=True)
class _Members:
    """What a pool holds, and the options of its statistic."""

    pairs: Sequence[tuple[float, float]]  # weights and values
    total: float  # of the weights
    unbiased: bool
    centre: float | None  # of a second moment
    share: float | None  # of a quantile

    def sum_of(self, term: Callable[[float], float]) -> float:
        """The weighted sum of a function of the values."""
        return sum(weight * term(value) for weight, value in self.pairs)

    def mean_of(self, term: Callable[[float], float]) -> float:
        """The weighted mean of a function of the values; zero for an empty pool."""
        return quotient(self.sum_of(term), self.total) if self.total else 0.0


def _variance(members: _Members) -> float:
    mean = members.mean_of(lambda x: x)
    biased = members.mean_of(lambda x: (x - mean) * (x - mean))
    return unbiased(biased, members.total) if members.unbiased else biased


def _second_moment(members: _Members) -> float:
    centre = members.centre
    assert centre is not None
    return members.mean_of(lambda x: (x - centre) * (x - centre))


def _extreme(choose: Callable[[list[float]], float]) -> Callable[[_Members], float]:
    """The maximum or the minimum: zero for an empty pool, NaN where a value is one."""

    def extreme(members: _Members) -> float:
        values = [value for _, value in members.pairs]
        if not members.total:
            return 0.0
        return math.nan if any(map(math.isnan, values)) else choose(values)

    return extreme


def _quantile(members: _Members) -> float:
    """A quantile: between the two sorted values nearest to the position of the share."""
    assert members.share is not None
    values = [value for _, value in members.pairs]
    if not values or any(map(math.isnan, values)):
        return math.nan if values else 0.0
    ordered = sorted(values)
    position = members.share * (len(ordered) - 1)
    fraction = position - math.floor(position)
    below = ordered[math.floor(position)]
    if not fraction:
        return below
    return (1 - fraction) * below + fraction * ordered[math.ceil(position)]


STATISTICS: Mapping[str, Callable[[_Members], float]] = {
    "sum": lambda members: members.sum_of(lambda x: x),
    "mean": lambda members: members.mean_of(lambda x: x),
    "l1": lambda members: members.sum_of(abs),
    "l2": lambda members: square_root(members.sum_of(lambda x: x * x)),
    "var": _variance,
    "second": _second_moment,
    "max": _extreme(max),
    "min": _extreme(min),
    "quantile": _quantile,
}
assert STATISTICS.keys() >= POOLED_STATISTICS, POOLED_STATISTICS - STATISTICS.keys()
