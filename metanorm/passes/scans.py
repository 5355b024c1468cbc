"""Rewrite overlapping pools as scans: running totals, along one axis, of the statistics of cells.

The pass first pools the other axes, so that a scan reads one value per cell: the moments of x over
C and the past of T are the moments, over the past of T, of the moments of each time step. Several
scans follow each other, by Chan's rule. A scan has one grouping, `Reach`; the pass adds what a
window sees beyond the border. The adjoint of a scan is the mirrored scan. Where pools stay within
segments, scans do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from metanorm.ir.aggregation import (
    Aggregation,
    Causal,
    Grouping,
    Ones,
    Reach,
    Window,
)
from metanorm.ir.nodes import Count, Pool, Position, Ref
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Apply, Const, Scalar, SizeOf
from metanorm.passes.builder import Builder
from metanorm.passes.reductions import summed

ONE, TWO = Const(1), Const(2)
SCANNED = ("sum", "mean", "var")  # the statistics that scans compute
# Why a pool with such a grouping, left by this pass, has no kernel.
OBSTACLES: Mapping[type[Grouping], str] = {
    Window: "{} of windows, which overlap",
    Causal: "{} of the past, which overlaps",
}


def scans(program: Program) -> Program:
    """The program in which each overlapping pool is a scan: it pools that axis alone.

    The program must be reduced: `metanorm.passes.reductions` comes before.
    """
    if not any(_overlaps(let.op) for let in program.body):
        return program
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Count) and _overlaps(op):
            builder.substitute(let, _scan_count(builder, op.over))
        elif isinstance(op, Pool) and _overlaps(op) and _can_be_scanned(builder, op):
            builder.substitute(let, _scan_pool(builder, op))
        else:
            builder.copy(let)
    return builder.finish()


def scan_obstacles(op: Pool) -> Iterator[str]:
    """The reasons why this pass left an overlapping pool as it is."""
    for _, matrix in op.over:
        if type(matrix) in OBSTACLES:
            yield OBSTACLES[type(matrix)].format(op.statistic)


def _overlaps(op: object) -> bool:
    """Whether to rewrite an operation. A pool by `Reach` is a scan already, a count is none."""
    kinds = (Window, Causal, Reach) if isinstance(op, Count) else (Window, Causal)
    return isinstance(op, (Pool, Count)) and any(isinstance(m, kinds) for _, m in op.over)


def _can_be_scanned(b: Builder, op: Pool) -> bool:
    """Whether scans compute the statistic, and the weight is constant in cells.

    A cell of total weight zero has no mean through which a varying weight could get its gradient.
    """
    cells, _ = _split_over(b, op.over)
    has_cell_weights = (
        op.weight is None or op.statistic == "sum" or _is_constant(b, op.weight, cells)
    )
    return op.statistic in SCANNED and has_cell_weights


def _is_constant(b: Builder, weight: Ref, cells: Aggregation) -> bool:
    axes = b.types[weight].axes
    return all(b.space.is_constant(axes, axis, matrix) for axis, matrix in cells)


# ---- one axis of a pool


@dataclass(frozen=True)
class _ScanAxis:
    """One axis of a scan: how far its pools reach, and what they contain beyond the border."""

    b: Builder
    axis: str
    reach: Reach
    edge: str

    @property
    def over(self) -> Aggregation:
        return ((self.axis, self.reach),)

    def _position(self) -> Ref:
        return self.b.emit(Position(self.axis))

    def _last_position(self) -> Ref:
        return self.b.number(_minus_one(SizeOf(self.axis)))

    def position_count(self) -> Ref:
        """The number of positions of the axis in each pool."""
        b, (back, ahead) = self.b, (self.reach.back, self.reach.ahead)
        if self.reach.within is not None:  # where a segment ends, only a scan finds
            return b.emit(Pool("sum", b.number(1), self.over))
        first, last = b.number(0), self._last_position()
        if back is not None:
            first = b.map("max", b.map("sub", self._position(), b.number(back)), first)
        if ahead is not None:
            last = b.map("min", b.map("add", self._position(), b.number(ahead)), last)
        return b.map("add", b.map("sub", last, first), b.number(1))

    @property
    def width(self) -> Scalar:
        """The number of positions of a window, those beyond the border included."""
        assert self.reach.back is not None and self.reach.ahead is not None
        return Apply("add", (Apply("add", (self.reach.back, self.reach.ahead)), ONE))

    def zero_count(self) -> Ref:
        """The number of zeros beyond the border in each pool."""
        return self.b.map("sub", self.b.number(self.width), self.position_count())

    def border_repeats(self) -> list[tuple[Ref, Ref]]:
        """The first and the last position, with how often a pool repeats each beyond the border."""
        b, zero = self.b, self.b.number(0)
        assert self.reach.back is not None and self.reach.ahead is not None
        here, last = self._position(), self._last_position()
        before = b.map("max", b.map("sub", b.number(self.reach.back), here), zero)
        end = b.map("add", here, b.number(self.reach.ahead))
        after = b.map("max", b.map("sub", end, last), zero)
        return [(zero, before), (last, after)]

    def at(self, position: Ref, value: Ref) -> Ref:
        """The value at one position of the axis, without the axis."""
        b = self.b
        if self.axis not in b.types[value].axes:
            return value
        masked = b.map("where", b.map("eq", self._position(), position), value, b.number(0))
        return b.emit(Pool("sum", masked, ((self.axis, Ones()),)))


def _scan_axis(b: Builder, axis: str, grouping: Grouping) -> _ScanAxis:
    match grouping:
        case Window(width, edge, within):
            reach = Reach(_half(width), _half(_minus_one(width)), within)
            return _ScanAxis(b, axis, reach, edge)
        case Causal(width, within):
            back = None if width is None else _minus_one(width)
            return _ScanAxis(b, axis, Reach(back, Const(0), within), "truncate")
        case Reach():
            return _ScanAxis(b, axis, grouping, "truncate")
        case _:
            raise TypeError(f"nothing overlaps in {grouping}")


def _minus_one(number: Scalar) -> Scalar:
    match number:
        case Const(value):
            return Const(value - 1)
        case _:
            return Apply("sub", (number, ONE))


def _half(number: Scalar) -> Scalar:
    match number:
        case Const(value):
            return Const(value // 2)
        case _:
            return Apply("floordiv", (number, TWO))


def _split_over(b: Builder, over: Aggregation) -> tuple[Aggregation, list[_ScanAxis]]:
    """The aggregation that is pooled first, into cells, and the axes of scans."""
    overlapping = [(axis, m) for axis, m in over if isinstance(m, (Window, Causal, Reach))]
    cells = tuple(pair for pair in over if pair not in overlapping)
    return cells, [_scan_axis(b, axis, matrix) for axis, matrix in overlapping]


# ---- counts, sums, moments


def _scan_count(b: Builder, over: Aggregation) -> Ref:
    """The number of elements in each pool."""
    cells, scan_axes = _split_over(b, over)
    count = b.emit(Count(cells)) if cells else b.number(1)
    for scan_axis in scan_axes:
        size = scan_axis.position_count()
        if scan_axis.edge == "zero":
            size = b.map("add", size, scan_axis.zero_count())
        for _, repeats in scan_axis.border_repeats() if scan_axis.edge == "replicate" else ():
            size = b.map("add", size, repeats)
        count = b.map("mul", count, size)
    return count


class _Moments(NamedTuple):
    """Weight, mean and variance of cells or pools.

    Without a weight, all have the same; without a variance, each cell is a single value.
    """

    weight: Ref | None
    mean: Ref
    var: Ref | None


def _scan_pool(b: Builder, op: Pool) -> Ref:
    """The pool: cells first, then a scan along each axis."""
    cells, scan_axes = _split_over(b, op.over)
    if op.statistic == "sum":
        total = b.emit(replace(op, over=cells)) if cells else _weighted_values(b, op)
        for scan_axis in scan_axes:
            total = _scan_sum(b, scan_axis, total)
        return total
    moments = _cell_moments(b, op, cells)
    for scan_axis in scan_axes:
        moments = _scan_moments(b, scan_axis, moments, with_var=op.statistic == "var")
    return moments.mean if op.statistic == "mean" else moments.var or b.number(0)


def _weighted_values(b: Builder, op: Pool) -> Ref:
    """The values times their weights, zero where the weight is zero, even of NaN.

    A weight of zero has a gradient, which is its value if that is finite.
    """
    zero, value = b.number(0), op.value
    if op.where is not None:
        value = b.map("where", op.where, value, zero)
    if op.weight is None:
        return value
    return b.map("mul", _counted(b, value, op.weight), op.weight)


def _counted(b: Builder, value: Ref, weight: Ref) -> Ref:
    """Values to multiply by weights: those of weight zero are zero where they are not finite."""
    zero = b.number(0)
    finite = b.map("eq", b.map("mul", value, zero), zero)
    weighs = b.map("ne", weight, zero)
    return b.map("where", weighs, value, b.map("where", finite, value, zero))


def _weights(b: Builder, op: Pool) -> Ref | None:
    """The weight of each value; `None` where all weights are one."""
    if op.where is None:
        return op.weight
    return b.map("where", op.where, op.weight or b.number(1), b.number(0))


def _scan_sum(b: Builder, scan_axis: _ScanAxis, value: Ref) -> Ref:
    total = b.emit(Pool("sum", value, scan_axis.over))
    for position, repeats in scan_axis.border_repeats() if scan_axis.edge == "replicate" else ():
        beyond = b.map("mul", repeats, scan_axis.at(position, value))
        is_repeated = b.map("ne", repeats, b.number(0))
        total = b.map("add", total, b.map("where", is_repeated, beyond, b.number(0)))
    return total


def _cell_moments(b: Builder, op: Pool, cells: Aggregation) -> _Moments:
    """The moments of cells, which scans then combine."""
    if not cells:
        return _Moments(_weights(b, op), op.value, None)
    is_unweighted = op.where is None and op.weight is None
    weight = None if is_unweighted else summed(b, Count(cells, op.where, op.weight))
    cell_pool = replace(op, weight=None, over=cells)  # the weight is constant in a cell
    mean = b.emit(replace(cell_pool, statistic="mean"))
    return _Moments(weight, mean, b.emit(cell_pool) if op.statistic == "var" else None)


def _scan_moments(b: Builder, scan_axis: _ScanAxis, cells: _Moments, with_var: bool) -> _Moments:
    """The moments of pools of cells, by one scan; the variance only if `with_var`."""

    def pooled(statistic: str, value: Ref) -> Ref:
        return b.emit(Pool(statistic, value, scan_axis.over, weight=cells.weight))

    def mean_alone(value: Ref) -> Ref:
        """The mean without its variance: a sum is less work than moments."""
        if cells.weight is not None:
            return pooled("mean", value)
        return b.map("div", b.emit(Pool("sum", value, scan_axis.over)), scan_axis.position_count())

    if scan_axis.edge == "zero" and cells.weight is None and not with_var:
        total = b.emit(Pool("sum", cells.mean, scan_axis.over))
        return _Moments(None, b.map("div", total, b.number(scan_axis.width)), None)
    mean, var = pooled("mean", cells.mean) if with_var else mean_alone(cells.mean), None
    if with_var:
        var = pooled("var", cells.mean)
        if cells.var is not None:
            var = b.map("add", mean_alone(cells.var), var)
    weight = None
    if cells.weight is not None:
        weight = b.emit(Pool("sum", cells.weight, scan_axis.over))
    moments = _Moments(weight, mean, var)
    if scan_axis.edge == "zero" and weight is None:  # beside weights, the zeros have none
        inner = _with_weight(moments, scan_axis.position_count())
        zero = b.number(0)
        moments = _combine(b, inner, _Moments(scan_axis.zero_count(), zero, zero))
        return _with_weight(moments, None)
    if scan_axis.edge != "replicate":
        return moments
    united = _with_weight(moments, weight or scan_axis.position_count())
    for position, repeats in scan_axis.border_repeats():
        parts = (None if part is None else scan_axis.at(position, part) for part in cells)
        end_weight, end_mean, end_var = parts
        beyond = repeats if end_weight is None else b.map("mul", repeats, end_weight)
        assert end_mean is not None
        end = _Moments(beyond, end_mean, end_var)
        united = _combine(b, united, end, repeats if end_weight is not None else None)
    return united if weight is not None else _with_weight(united, None)


def _with_weight(moments: _Moments, weight: Ref | None) -> _Moments:
    """The same moments with another weight."""
    return moments._replace(weight=weight)


def _combine(b: Builder, left: _Moments, right: _Moments, repeats: Ref | None = None) -> _Moments:
    """The moments of both together, by Chan's rule.

    Where the right ones have weight zero, they are not read: they may be NaN, and NaN times zero
    would be NaN in the gradient, too. If they are one cell that `repeats`, its weight has a
    gradient even where it is zero.
    """
    assert left.weight is not None and right.weight is not None
    zero, one = b.number(0), b.number(1)
    total = b.map("add", left.weight, right.weight)
    counting = right.weight if repeats is None else b.map("mul", repeats, total)
    counts = b.map("ne", counting, zero)
    gap, share = b.map("sub", right.mean, left.mean), b.map("div", right.weight, total)

    def counted(value: Ref) -> Ref:
        finite = value if repeats is None else _counted(b, value, right.weight or zero)
        return b.map("where", counts, finite, zero)

    offset = counted(gap)
    share = b.map("where", counts, share, zero)
    mean = b.map("add", left.mean, b.map("mul", offset, share))
    if left.var is None:
        return _Moments(total, mean, None)
    left_share = b.map("sub", one, share)
    between = b.map("mul", b.map("mul", share, left_share), b.map("mul", offset, offset))
    var = b.map("add", b.map("mul", left.var, left_share), between)
    if right.var is not None:
        right_var = b.map("mul", counted(right.var), share)
        var = b.map("add", var, right_var)
    return _Moments(total, mean, var)
