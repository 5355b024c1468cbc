"""Pools that overlap along an axis become scans: running totals of the values of cells.

What else such a pool takes is pooled first, so that what is scanned has a value for each cell: the
moments of x over C and the past of T are those, over the past of T, of the moments of each frame.
Axes follow one after the other, by Chan's rule. A scan knows one form, `Reach`; what lies beyond
the border is joined to what it has found. Its adjoint is the mirrored scan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from metanorm.ir.aggregation import Aggregation, Causal, Grouping, Ones, Reach, Window
from metanorm.ir.nodes import Count, Pool, Position, Program, Ref
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Apply, Const, Scalar, SizeOf
from metanorm.passes.builder import Builder
from metanorm.passes.reductions import summed

ONE, TWO = Const(1), Const(2)
SCANNED = ("sum", "mean", "var")  # the statistics of what overlaps that scans find
# What is left of pools that overlap.
LEFT: Mapping[type[Grouping], str] = {
    Window: "{} of windows, which overlap",
    Causal: "{} of the past, which overlaps",
}


def scans(program: Program) -> Program:
    """The program in which what overlaps along an axis is pooled along that axis alone.

    Of a reduced program: `metanorm.passes.reductions` comes before.
    """
    if not any(_overlaps(let.op) for let in program.body):
        return program
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if isinstance(op, Count) and _overlaps(op):
            builder.substitute(let, _counted(builder, op.over))
        elif isinstance(op, Pool) and _overlaps(op) and _can_be_scanned(builder, op):
            builder.substitute(let, _scanned(builder, op))
        else:
            builder.copy(let)
    return builder.finish()


def scan_obstacles(op: Pool) -> Iterator[str]:
    """What no scan finds, in words: of a pool as this pass leaves it."""
    for _, matrix in op.over:
        if type(matrix) in LEFT:
            yield LEFT[type(matrix)].format(op.statistic)


def _overlaps(op: object) -> bool:
    """Whether there is anything to do: a scan alone stays as it is, but is counted by a formula."""
    kinds = (Window, Causal, Reach) if isinstance(op, Count) else (Window, Causal)
    return isinstance(op, (Pool, Count)) and any(isinstance(m, kinds) for _, m in op.over)


def _can_be_scanned(b: Builder, op: Pool) -> bool:
    """Where a weight varies in a cell all of which weighs nothing, the cell has no mean, through
    which the weight could have its gradient."""
    first, _ = _parted(b, op.over)
    known = op.weight is None or op.statistic == "sum" or _constant(b, op.weight, first)
    return op.statistic in SCANNED and known


def _constant(b: Builder, weight: Ref, first: Aggregation) -> bool:
    axes = b.types[weight].axes
    return all(b.space.is_constant(axes, axis, matrix) for axis, matrix in first)


# ---- one axis of a pool


@dataclass(frozen=True)
class _Along:
    """How far the pools of an axis reach, and what they hold of what is beyond its border."""

    b: Builder
    axis: str
    reach: Reach
    edge: str

    @property
    def over(self) -> Aggregation:
        return ((self.axis, self.reach),)

    def _here(self) -> Ref:
        return self.b.emit(Position(self.axis))

    def _last(self) -> Ref:
        return self.b.number(_less(SizeOf(self.axis)))

    def present(self) -> Ref:
        """How many positions of the axis each pool has."""
        b, (back, ahead) = self.b, (self.reach.back, self.reach.ahead)
        first, last = b.number(0), self._last()
        if back is not None:
            first = b.map("max", b.map("sub", self._here(), b.number(back)), first)
        if ahead is not None:
            last = b.map("min", b.map("add", self._here(), b.number(ahead)), last)
        return b.map("add", b.map("sub", last, first), b.number(1))

    def zeros(self) -> Ref:
        """How many zeros beyond the border each pool has."""
        assert self.reach.back is not None and self.reach.ahead is not None
        width = Apply("add", (Apply("add", (self.reach.back, self.reach.ahead)), ONE))
        return self.b.map("sub", self.b.number(width), self.present())

    def ends(self) -> list[tuple[Ref, Ref]]:
        """The outermost positions, and how often each pool has them once more."""
        b, zero = self.b, self.b.number(0)
        assert self.reach.back is not None and self.reach.ahead is not None
        here, last = self._here(), self._last()
        before = b.map("max", b.map("sub", b.number(self.reach.back), here), zero)
        reached = b.map("add", here, b.number(self.reach.ahead))
        behind = b.map("max", b.map("sub", reached, last), zero)
        return [(zero, before), (last, behind)]

    def at(self, position: Ref, value: Ref) -> Ref:
        """A value at one position of the axis, for all others."""
        b = self.b
        if self.axis not in b.types[value].axes:
            return value
        own = b.map("where", b.map("eq", self._here(), position), value, b.number(0))
        return b.emit(Pool("sum", own, ((self.axis, Ones()),)))


def _along(b: Builder, axis: str, matrix: Grouping) -> _Along:
    match matrix:
        case Window(width, edge):
            return _Along(b, axis, Reach(_half(width), _half(_less(width))), edge)
        case Causal(width):
            back = None if width is None else _less(width)
            return _Along(b, axis, Reach(back, Const(0)), "truncate")
        case Reach():
            return _Along(b, axis, matrix, "truncate")
        case _:
            raise TypeError(f"nothing overlaps in {matrix}")


def _less(number: Scalar) -> Scalar:
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


def _parted(b: Builder, over: Aggregation) -> tuple[Aggregation, list[_Along]]:
    """The axes that are pooled first, and those of scans."""
    near = [(axis, m) for axis, m in over if isinstance(m, (Window, Causal, Reach))]
    first = tuple(pair for pair in over if pair not in near)
    return first, [_along(b, axis, matrix) for axis, matrix in near]


# ---- counts, sums, moments


def _counted(b: Builder, over: Aggregation) -> Ref:
    """How many elements each pool has."""
    first, near = _parted(b, over)
    count = b.emit(Count(first)) if first else b.number(1)
    for along in near:
        own = along.present()
        if along.edge == "zero":
            own = b.map("add", own, along.zeros())
        for _, more in along.ends() if along.edge == "replicate" else ():
            own = b.map("add", own, more)
        count = b.map("mul", count, own)
    return count


class _Moments(NamedTuple):
    """What elements weigh, their mean and their variance; without a weight all cells are alike, and
    without a variance each is a single value."""

    weight: Ref | None
    mean: Ref
    var: Ref | None


def _scanned(b: Builder, op: Pool) -> Ref:
    """The pool, axis after axis."""
    first, near = _parted(b, op.over)
    if op.statistic == "sum":
        added = b.emit(replace(op, over=first)) if first else _weighed(b, op)
        for along in near:
            added = _sum(b, along, added)
        return added
    moments = _of_cells(b, op, first)
    for along in near:
        moments = _joined(b, along, moments, wanted=op.statistic == "var")
    return moments.mean if op.statistic == "mean" else moments.var or b.number(0)


def _weighed(b: Builder, op: Pool) -> Ref:
    """The values as often as they count; what does not count may be anything."""
    weight = _weight(b, op)
    if weight is None:
        return op.value
    zero = b.number(0)
    counted = op.value if op.weight is None else b.map("mul", op.value, weight)
    return b.map("where", b.map("ne", weight, zero), counted, zero)


def _weight(b: Builder, op: Pool) -> Ref | None:
    """What each value weighs, where that is not one."""
    if op.where is None:
        return op.weight
    return b.map("where", op.where, op.weight or b.number(1), b.number(0))


def _sum(b: Builder, along: _Along, value: Ref) -> Ref:
    added = b.emit(Pool("sum", value, along.over))
    for position, more in along.ends() if along.edge == "replicate" else ():
        beyond = b.map("mul", more, along.at(position, value))
        some = b.map("ne", more, b.number(0))
        added = b.map("add", added, b.map("where", some, beyond, b.number(0)))
    return added


def _of_cells(b: Builder, op: Pool, first: Aggregation) -> _Moments:
    """The moments of what is pooled before all scans."""
    if not first:
        return _Moments(_weight(b, op), op.value, None)
    plain = op.where is None and op.weight is None
    weight = None if plain else summed(b, Count(first, op.where, op.weight))
    own = replace(op, weight=None, over=first)  # it is the same all over a cell
    mean = b.emit(replace(own, statistic="mean"))
    return _Moments(weight, mean, b.emit(own) if op.statistic == "var" else None)


def _joined(b: Builder, along: _Along, cells: _Moments, wanted: bool) -> _Moments:
    """The moments of pools of cells; the variance only where it is `wanted`."""

    def pooled(statistic: str, value: Ref) -> Ref:
        return b.emit(Pool(statistic, value, along.over, weight=cells.weight))

    def mean_alone(value: Ref) -> Ref:
        """A sum is less work than the moments that a mean comes with."""
        if cells.weight is not None:
            return pooled("mean", value)
        return b.map("div", b.emit(Pool("sum", value, along.over)), along.present())

    mean, var = pooled("mean", cells.mean) if wanted else mean_alone(cells.mean), None
    if wanted:
        var = pooled("var", cells.mean)
        if cells.var is not None:
            var = b.map("add", mean_alone(cells.var), var)
    weight = None
    if cells.weight is not None:
        weight = b.emit(Pool("sum", cells.weight, along.over))
    found = _Moments(weight, mean, var)
    if along.edge == "zero" and weight is None:  # with weights, zeros weigh nothing
        inside = _weighing(found, along.present())
        zero = b.number(0)
        found = _united(b, inside, _Moments(along.zeros(), zero, zero))
        return _weighing(found, None)
    if along.edge != "replicate":
        return found
    united = _weighing(found, weight or along.present())
    for position, more in along.ends():
        own = (None if part is None else along.at(position, part) for part in cells)
        heavy, end, spread = own
        beyond = more if heavy is None else b.map("mul", more, heavy)
        assert end is not None
        united = _united(b, united, _Moments(beyond, end, spread))
    return united if weight is not None else _weighing(united, None)


def _weighing(moments: _Moments, weight: Ref | None) -> _Moments:
    """The same with another weight."""
    return moments._replace(weight=weight)


def _united(b: Builder, one: _Moments, more: _Moments) -> _Moments:
    """The moments of both together, by Chan's rule. Of what weighs nothing nothing is read, as it
    may be NaN, which times zero would be NaN in the gradient, too."""
    assert one.weight is not None and more.weight is not None
    zero, whole = b.number(0), b.number(1)
    total = b.map("add", one.weight, more.weight)
    some = b.map("ne", more.weight, zero)
    share = b.map("where", some, b.map("div", more.weight, total), zero)
    gap = b.map("where", some, b.map("sub", more.mean, one.mean), zero)
    mean = b.map("add", one.mean, b.map("mul", gap, share))
    if one.var is None:
        return _Moments(total, mean, None)
    rest = b.map("sub", whole, share)
    between = b.map("mul", b.map("mul", share, rest), b.map("mul", gap, gap))
    var = b.map("add", b.map("mul", one.var, rest), between)
    if more.var is not None:
        own = b.map("where", some, b.map("mul", more.var, share), zero)
        var = b.map("add", var, own)
    return _Moments(total, mean, var)
