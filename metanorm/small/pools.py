"""Statistics, from the positions that each pool holds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product

from metanorm.ir.nodes import Count, Pool, Ref, Type
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
        self.v = values
        self.space = values.space

    def joined(self, op: Pool | Count) -> tuple[list[str], list[str]]:
        """All axes of the pooled values, with pooled axes in place of cells, and the kept axes."""
        pooled = {axis for axis, _ in op.over}
        refs = [op.value, op.where, op.weight] if isinstance(op, Pool) else [op.where, op.weight]
        axes = pooled | {a for ref in refs if ref is not None for a in self.v.types[ref].axes}
        bases = {a: self.space.base(a) for a in axes}
        full = {bases[a] if bases[a] in pooled and a not in pooled else a for a in axes}
        joined = list(self.space.join(*((axis,) for axis in full)))
        return joined, [axis for axis in joined if axis not in pooled]

    def rows(self, op: Pool | Count, axis: str) -> list[Row]:
        """The row of each pool along one of the pooled axes."""
        groupings = dict(op.over)
        grouping = groupings.get(axis) or groupings[self.space.base(axis)]
        return pool_rows(grouping, self.v.size(axis), self.v.call)

    def coefficients(
        self, op: Pool | Count, pool: Mapping[str, Row], at: Position
    ) -> Iterator[tuple[Position, bool, float]]:
        """What a pool holds: positions, whether they are inside of all axes, and coefficients.

        `pool` has its row along each pooled axis, `at` its position on the kept axes. What is left
        out or weighs nothing is not named.
        """
        for entries in product(*(row.items() for row in pool.values())):
            place = {**at, **{axis: position for axis, (position, _) in zip(pool, entries)}}
            inside = all(position < self.v.size(axis) for axis, position in place.items())
            coefficient = math.prod(weight for _, weight in entries)
            if op.where is not None:
                coefficient = coefficient if inside and self.v.element(op.where, place) else 0.0
            if op.weight is not None and coefficient:
                coefficient *= self.v.element(op.weight, place) if inside else 0.0
            if coefficient:
                yield place, inside, coefficient

    def result(self, op: Pool | Count, type_: Type, name: str) -> list[float]:
        """The statistic of each pool, or what it counts."""
        joined, kept = self.joined(op)
        rows = {axis: self.rows(op, axis) for axis in joined if axis not in kept}
        steps = math.prod(sum(map(len, rows_of_axis)) for rows_of_axis in rows.values())
        if steps * math.prod(self.v.sizes(kept)) > MAX_STEPS:
            raise TooLarge(name)
        # A pooled axis has one pool, or a cell axis for its pools, or its own positions.
        groupings = dict(op.over)
        cell_axes = {a: self.space.pooled_axes((a,), ((a, groupings[a]),)) for a in rows}
        elements = []
        for index in indices(self.v.sizes(kept)):
            at = dict(zip(kept, index))
            for pool in indices([len(rows_of_axis) for rows_of_axis in rows.values()]):
                rows_of_pool = {axis: rows[axis][rank] for axis, rank in zip(rows, pool)}
                members = list(self.coefficients(op, rows_of_pool, at))
                cells = {c: rank for a, rank in zip(rows, pool) for c in cell_axes[a]}
                elements.append(self._statistic(op, members, {**at, **cells}))
        axes = [*kept, *(cell for axis in rows for cell in cell_axes[axis])]
        return self.v.spread(elements, axes, type_.axes)

    def _statistic(
        self, op: Pool | Count, members: Sequence[tuple[Position, bool, float]], at: Position
    ) -> float:
        """The statistic of one pool, whose result is at a position."""
        total = float(sum(weight for _, _, weight in members))
        if isinstance(op, Count):
            return total
        pairs = [
            (weight, self.v.element(op.value, place) if inside else 0.0)
            for place, inside, weight in members
        ]

        def add_up(term: Callable[[float], float]) -> float:
            return sum(weight * term(value) for weight, value in pairs)

        def average(term: Callable[[float], float]) -> float:
            return quotient(add_up(term), total) if total else 0.0

        match op.statistic:
            case "sum":
                return add_up(lambda x: x)
            case "mean":
                return average(lambda x: x)
            case "l1":
                return add_up(abs)
            case "l2":
                return square_root(add_up(lambda x: x * x))
            case "var":
                mean = average(lambda x: x)
                biased = average(lambda x: (x - mean) * (x - mean))
                return unbiased(biased, total) if op.ddof else biased
            case "second":
                assert op.about is not None
                about: Ref = op.about
                centre = self.v.element(about, at)
                return average(lambda x: (x - centre) * (x - centre))
            case "max" | "min":
                values = [value for _, value in pairs]
                if not total or any(map(math.isnan, values)):
                    return math.nan if total else 0.0
                return max(values) if op.statistic == "max" else min(values)
            case "quantile":
                assert op.share is not None
                return _quantile([value for _, value in pairs], self.v.call.number(op.share))
        raise NotImplementedError(op.statistic)


def _quantile(values: Sequence[float], share: float) -> float:
    """A quantile: between the two sorted values nearest to the position of the share."""
    if not values or any(map(math.isnan, values)):
        return math.nan if values else 0.0
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    fraction = position - math.floor(position)
    below = ordered[math.floor(position)]
    if not fraction:
        return below
    return (1 - fraction) * below + fraction * ordered[math.ceil(position)]
