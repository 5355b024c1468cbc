"""Rewrite statistics of values that repeat along an axis, so that nothing is computed per copy.

Two cases. A weight may have axes that the value lacks: ModeNorm weights all of x for each of its
modes. Then the pass measures the value where the weight is constant, and weights the small table of
these cells. And a sum of (x - m) * a over an axis that x lacks is x times the sum of a, about the
mean of the centres m.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Aggregation, Ones, is_partition
from metanorm.ir.nodes import Count, Detach, Map, Pool, Ref
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder

WEIGHTED_STATISTICS = ("sum", "mean", "var")
MAX_DEPTH = 100  # nested operations of a formula that the pass looks into
SUMMED_STATISTICS = ("sum", "mean")


@dataclass(frozen=True, slots=True)
class _Copies:
    """(source - centre) * scale + shift, with coefficients on axes that the source lacks.

    A `scale` of `None` is one; a `centre` or `shift` of `None` is zero.
    """

    source: Ref
    scale: Ref | None = None
    centre: Ref | None = None
    shift: Ref | None = None


def repeated(program: Program) -> Program:
    """The program without statistics of values that only repeat smaller ones."""
    return _Repeated(program).run()


class _Repeated:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self._copies_cache: dict[tuple[Ref, frozenset[str]], _Copies | None] = {}
        self._depth = 0

    def run(self) -> Program:
        changed = False
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            self.b.span = let.span
            result = self._rewrite(op) if isinstance(op, Pool) else None
            if result is None:
                self.b.copy(let)
            else:
                self.b.substitute(let, result)
                changed = True
        return self.b.finish() if changed else self.program

    def _rewrite(self, op: Pool) -> Ref | None:
        if op.ddof or op.about is not None:
            return None
        if op.weight is not None or op.where is not None:
            return self._rewrite_weighted(op)
        return self._rewrite_sum(op)

    # ---- weights with further axes

    def _rewrite_weighted(self, op: Pool) -> Ref | None:
        """A weighted statistic from the statistics of cells in which the weight is constant."""
        space, types = self.b.space, self.b.types
        value_axes = types[op.value].axes
        weights = [types[ref].axes for ref in (op.weight, op.where) if ref is not None]
        if (
            op.statistic not in WEIGHTED_STATISTICS
            or space.join(value_axes, *weights) == value_axes
        ):
            return None
        inner: Aggregation = tuple(
            (axis, matrix)
            for axis, matrix in op.over
            if isinstance(matrix, (Ones, RegularPartition))
            and axis in value_axes
            and all(space.is_constant(axes, axis, matrix) for axes in weights)
        )
        outer = tuple(pair for pair in op.over if pair not in inner)
        if not inner or not outer or not all(is_partition(matrix) for _, matrix in outer):
            return None
        if op.statistic == "sum":
            return self.b.emit(replace(op, value=self._pool_cells(op, "sum", inner), over=outer))
        means = replace(op, value=self._pool_cells(op, "mean", inner), over=outer)
        if op.statistic == "mean":
            return self.b.emit(means)
        between = self.b.emit(means, "%between")
        within = replace(op, statistic="mean", value=self._pool_cells(op, "var", inner), over=outer)
        return self.b.map("add", self.b.emit(within, "%within"), between)

    def _pool_cells(self, op: Pool, statistic: str, over: Aggregation) -> Ref:
        return self.b.emit(Pool(statistic, op.value, over))

    # ---- sums over axes that a value lacks

    def _rewrite_sum(self, op: Pool) -> Ref | None:
        """The sum or mean of copies, from the source and the sums of the coefficients."""
        sums_whole_axes = all(isinstance(m, Ones) and not self.b.space[a].parts for a, m in op.over)
        if op.statistic not in SUMMED_STATISTICS or not sums_whole_axes:
            return None
        summed_axes = {self.b.space.base(axis) for axis, _ in op.over}
        copies = self._copies(op.value, summed_axes)
        if copies is None or not (
            self._is_narrow(copies.scale, copies.source, summed_axes)
            or self._is_matrix_product(copies, summed_axes)
        ):
            return None
        one = self.b.number(1)
        scale, centre = one if copies.scale is None else copies.scale, copies.centre
        shifts = [] if copies.shift is None else [copies.shift]
        if centre is not None and self._varies_along(centre, summed_axes):
            # The result does not depend on it: as a constant, it has no gradient that cancels.
            mean = self.b.emit(Pool("mean", centre, self._over_axes_of(op, centre)))
            mean_centre = self.b.emit(Detach(mean))
            shifts.append(self.b.map("mul", self.b.map("sub", mean_centre, centre), scale))
            centre = mean_centre
        result = copies.source
        if centre is not None:
            result = self.b.map("sub", result, centre)
        result = self.b.map("mul", result, self._total_of(op, scale))
        for shift in shifts:
            result = self.b.map("add", result, self._total_of(op, shift))
        return result

    def _is_matrix_product(self, copies: _Copies, summed_axes: set[str]) -> bool:
        """Whether the sum of scales is one matrix product: cheap, though as large as the source."""
        if copies.centre is not None or copies.scale is None:
            return False
        op, types = self.b.ops[copies.scale], self.b.types
        scale_axes = set(types[copies.scale].axes)
        return (
            isinstance(op, Map)
            and op.function == "mul"
            and all(
                set(types[ref].axes) < scale_axes and self._varies_along(ref, summed_axes)
                for ref in op.arguments
            )
        )

    def _total_of(self, op: Pool, ref: Ref) -> Ref:
        """The sum or mean of a coefficient, which may lack some of the axes."""
        over = self._over_axes_of(op, ref)
        total = self.b.emit(replace(op, value=ref, over=over)) if over else ref
        missing = tuple(pair for pair in op.over if pair not in over)
        if op.statistic == "mean" or not missing:
            return total
        return self.b.map("mul", total, self.b.emit(Count(missing)))

    def _over_axes_of(self, op: Pool, ref: Ref) -> Aggregation:
        """The part of a pool's aggregation on the axes of a value."""
        return tuple(
            pair for pair in op.over if self._varies_along(ref, {self.b.space.base(pair[0])})
        )

    def _varies_along(self, ref: Ref, axes: set[str]) -> bool:
        """Whether a value has one of these axes, or cells of one."""
        return not axes.isdisjoint(map(self.b.space.base, self.b.types[ref].axes))

    def _is_narrow(self, ref: Ref | None, source: Ref, summed_axes: set[str]) -> bool:
        """Whether a coefficient, summed, has fewer axes than the source."""
        if ref is None:
            return True
        remaining = set(self.b.types[ref].axes) - summed_axes
        source_axes = set(self.b.types[source].axes)
        return remaining < source_axes

    def _copies(self, ref: Ref, summed_axes: set[str]) -> _Copies | None:
        """A value as copies of a source that has none of these axes.

        `None` if it is no such value, or if its formula is nested deeper than `MAX_DEPTH`.
        """
        key = ref, frozenset(summed_axes)
        if key not in self._copies_cache and self._depth < MAX_DEPTH:
            self._depth += 1
            self._copies_cache[key] = self._find_copies(ref, summed_axes)
            self._depth -= 1
        return self._copies_cache.get(key)

    def _find_copies(self, ref: Ref, summed_axes: set[str]) -> _Copies | None:
        types = self.b.types
        if types[ref].kind != "real":
            return None
        if not self._varies_along(ref, summed_axes):
            return _Copies(ref)
        match self.b.ops[ref]:
            case Map("mul" | "div" as function, (a, b)):
                return self._scaled(a, b, summed_axes, function) or (
                    self._scaled(b, a, summed_axes) if function == "mul" else None
                )
            case Map("add" | "sub" as function, (a, b)):
                return self._shifted(a, b, summed_axes, function) or self._shifted_by(
                    a, b, summed_axes, function
                )
            case Map("neg", (a,)):
                return self._scaled(a, self.b.number(-1), summed_axes)
            case _:
                return None

    def _copies_beside(self, ref: Ref, coefficient: Ref, summed_axes: set[str]) -> _Copies | None:
        """The copies that a value is, if `coefficient` is narrow beside their source."""
        copies = self._copies(ref, summed_axes)
        is_narrow = copies is not None and self._is_narrow(coefficient, copies.source, summed_axes)
        return copies if is_narrow else None

    def _scaled(
        self, ref: Ref, factor: Ref, summed_axes: set[str], function: str = "mul"
    ) -> _Copies | None:
        copies = self._copies_beside(ref, factor, summed_axes)
        if copies is None:
            return None
        scale = self.b.number(1) if copies.scale is None else copies.scale
        scale = self._multiply(scale, factor, copies.source, function)
        shift = None if copies.shift is None else self.b.map(function, copies.shift, factor)
        return replace(copies, scale=scale, shift=shift)

    def _multiply(self, scale: Ref, operand: Ref, source: Ref, function: str) -> Ref:
        """Multiply a scale by one more operand, first where the product stays narrow."""
        op = self.b.ops[scale]
        if isinstance(op, Map) and op.function == "mul" and self._covers(scale, source):
            for factor, other in (op.arguments, op.arguments[::-1]):
                joined = self.b.space.join(self.b.types[factor].axes, self.b.types[operand].axes)
                if not set(self.b.types[source].axes) <= set(joined):
                    return self.b.map("mul", self.b.map(function, factor, operand), other)
        return self.b.map(function, scale, operand)

    def _covers(self, ref: Ref, source: Ref) -> bool:
        return set(self.b.types[source].axes) <= set(self.b.types[ref].axes)

    def _shifted(
        self, ref: Ref, offset: Ref, summed_axes: set[str], function: str
    ) -> _Copies | None:
        """Copies plus or minus a narrow offset, which is their centre while they have no scale."""
        copies = self._copies_beside(ref, offset, summed_axes)
        if copies is None:
            return None
        if function == "sub" and copies == _Copies(copies.source):
            return replace(copies, centre=offset)
        signed = offset if function == "add" else self.b.map("neg", offset)
        shift = signed if copies.shift is None else self.b.map("add", copies.shift, signed)
        return replace(copies, shift=shift)

    def _shifted_by(
        self, offset: Ref, ref: Ref, summed_axes: set[str], function: str
    ) -> _Copies | None:
        """A narrow offset plus or minus copies."""
        if function == "sub":
            copies = self._scaled(ref, self.b.number(-1), summed_axes)
            if copies is None or self._copies_beside(ref, offset, summed_axes) is None:
                return None
            shift = offset if copies.shift is None else self.b.map("add", copies.shift, offset)
            return replace(copies, shift=shift)
        return self._shifted(ref, offset, summed_axes, "add")
