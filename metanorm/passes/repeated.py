"""Values that are repeated along an axis that they lack: nothing is computed for each copy.

ModeNorm weighs all of x by each of its modes. What is pooled with a weight on further axes is
first measured where the weight does not vary, and the small table of these cells is weighed. And a
sum over an axis of (x - m) * a, of which x has no part, is x times the sum of a, about a centre
that lies among those of the copies.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from metanorm.ir.aggregation import REGULAR, Aggregation, Ones, is_partition
from metanorm.ir.nodes import Count, Map, Pool, Program, Ref
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder

WEIGHED = ("sum", "mean", "var")
DEEPEST = 100  # steps of a formula that are followed
ADDED = ("sum", "mean")


@dataclass(frozen=True, slots=True)
class _Copies:
    """(source - centre) * scale + shift, with coefficients on axes that the source lacks.

    No `scale` stands for one; a `centre` or `shift` of `None` stands for zero.
    """

    source: Ref
    scale: Ref | None = None
    centre: Ref | None = None
    shift: Ref | None = None


def repeated(program: Program) -> Program:
    """The program without statistics of values that are larger only for being repeated."""
    return _Repeated(program).run()


class _Repeated:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.b = Builder(program)
        self._copies_cache: dict[tuple[Ref, frozenset[str]], _Copies | None] = {}
        self._depth = 0

    def run(self) -> Program:
        found = False
        for let in self.program.body:
            op = map_operands(let.op, self.b.value_map)
            self.b.span = let.span
            result = self._pooled(op) if isinstance(op, Pool) else None
            if result is None:
                self.b.copy(let)
            else:
                self.b.substitute(let, result)
                found = True
        return self.b.finish() if found else self.program

    def _pooled(self, op: Pool) -> Ref | None:
        if op.ddof or op.about is not None:
            return None
        if op.weight is not None or op.where is not None:
            return self._weighed(op)
        return self._added(op)

    # ---- weights with further axes

    def _weighed(self, op: Pool) -> Ref | None:
        """A weighed statistic from those of the cells that weigh the same throughout."""
        space, types = self.b.space, self.b.types
        own = types[op.value].axes
        weights = [types[ref].axes for ref in (op.weight, op.where) if ref is not None]
        if op.statistic not in WEIGHED or space.join(own, *weights) == own:
            return None
        inner: Aggregation = tuple(
            (axis, matrix)
            for axis, matrix in op.over
            if isinstance(matrix, (Ones, *REGULAR))
            and axis in own
            and all(space.is_constant(axes, axis, matrix) for axes in weights)
        )
        rest = tuple(pair for pair in op.over if pair not in inner)
        if not inner or not rest or not all(is_partition(matrix) for _, matrix in rest):
            return None
        if op.statistic == "sum":
            return self.b.emit(replace(op, value=self._cells(op, "sum", inner), over=rest))
        means = replace(op, value=self._cells(op, "mean", inner), over=rest)
        if op.statistic == "mean":
            return self.b.emit(means)
        between = self.b.emit(means, "%between")
        within = replace(op, statistic="mean", value=self._cells(op, "var", inner), over=rest)
        return self.b.map("add", self.b.emit(within, "%within"), between)

    def _cells(self, op: Pool, statistic: str, over: Aggregation) -> Ref:
        return self.b.emit(Pool(statistic, op.value, over))

    # ---- sums over axes that a value lacks

    def _added(self, op: Pool) -> Ref | None:
        """A sum of copies, or their mean, as one copy with the sums of its coefficients."""
        whole = all(isinstance(m, Ones) and not self.b.space[a].parts for a, m in op.over)
        if op.statistic not in ADDED or not whole:
            return None
        along = {self.b.space.base(axis) for axis, _ in op.over}
        copies = self._copies(op.value, along)
        if copies is None or not (
            self._narrow(copies.scale, copies.source, along) or self._multiplies(copies, along)
        ):
            return None
        one = self.b.number(1)
        scale, centre = one if copies.scale is None else copies.scale, copies.centre
        parts = [] if copies.shift is None else [copies.shift]
        if centre is not None and self._varies(centre, along):
            middle = self.b.emit(Pool("mean", centre, self._over(op, centre)))
            parts.append(self.b.map("mul", self.b.map("sub", middle, centre), scale))
            centre = middle
        result = copies.source
        if centre is not None:
            result = self.b.map("sub", result, centre)
        result = self.b.map("mul", result, self._total(op, scale))
        for part in parts:
            result = self.b.map("add", result, self._total(op, part))
        return result

    def _multiplies(self, copies: _Copies, along: set[str]) -> bool:
        """Whether the sum of the scales, as large as the source, is one product of matrices."""
        if copies.centre is not None or copies.scale is None:
            return False
        op, types = self.b.ops[copies.scale], self.b.types
        own = set(types[copies.scale].axes)
        return (
            isinstance(op, Map)
            and op.function == "mul"
            and all(set(types[ref].axes) < own and self._varies(ref, along) for ref in op.arguments)
        )

    def _total(self, op: Pool, ref: Ref) -> Ref:
        """The sum or mean of a coefficient, which may be the same all along an axis."""
        over = self._over(op, ref)
        total = self.b.emit(replace(op, value=ref, over=over)) if over else ref
        rest = tuple(pair for pair in op.over if pair not in over)
        if op.statistic == "mean" or not rest:
            return total
        return self.b.map("mul", total, self.b.emit(Count(rest)))

    def _over(self, op: Pool, ref: Ref) -> Aggregation:
        """What a pool does along the axes that a value has."""
        return tuple(pair for pair in op.over if self._varies(ref, {self.b.space.base(pair[0])}))

    def _varies(self, ref: Ref, along: set[str]) -> bool:
        """Whether a value has one of these axes, or cells of it."""
        return not along.isdisjoint(map(self.b.space.base, self.b.types[ref].axes))

    def _narrow(self, ref: Ref | None, source: Ref, along: set[str]) -> bool:
        """Whether what is left of a coefficient lacks axes of the source."""
        if ref is None:
            return True
        left = set(self.b.types[ref].axes) - along
        own = set(self.b.types[source].axes)
        return left < own

    def _copies(self, ref: Ref, along: set[str]) -> _Copies | None:
        """A value as copies of one that has none of these axes; `None` where it is not that, or
        only after more steps than formulas of people have."""
        key = ref, frozenset(along)
        if key not in self._copies_cache and self._depth < DEEPEST:
            self._depth += 1
            self._copies_cache[key] = self._find_copies(ref, along)
            self._depth -= 1
        return self._copies_cache.get(key)

    def _find_copies(self, ref: Ref, along: set[str]) -> _Copies | None:
        types = self.b.types
        if types[ref].kind != "real":
            return None
        if not self._varies(ref, along):
            return _Copies(ref)
        match self.b.ops[ref]:
            case Map("mul" | "div" as function, (a, b)):
                return self._scaled(a, b, along, function) or (
                    self._scaled(b, a, along) if function == "mul" else None
                )
            case Map("add" | "sub" as function, (a, b)):
                return self._moved(a, b, along, function) or self._moved_back(a, b, along, function)
            case Map("neg", (a,)):
                return self._scaled(a, self.b.number(-1), along)
            case _:
                return None

    def _of(self, ref: Ref, beside: Ref, along: set[str]) -> _Copies | None:
        """The copies that a value is, if what it is combined with is a coefficient of them."""
        copies = self._copies(ref, along)
        narrow = copies is not None and self._narrow(beside, copies.source, along)
        return copies if narrow else None

    def _scaled(self, ref: Ref, by: Ref, along: set[str], function: str = "mul") -> _Copies | None:
        copies = self._of(ref, by, along)
        if copies is None:
            return None
        scale = self.b.number(1) if copies.scale is None else copies.scale
        scale = self._times(scale, by, copies.source, function)
        shift = None if copies.shift is None else self.b.map(function, copies.shift, by)
        return replace(copies, scale=scale, shift=shift)

    def _times(self, scale: Ref, by: Ref, source: Ref, function: str) -> Ref:
        """A scale with one more factor; what is not as large as the source is multiplied first."""
        op = self.b.ops[scale]
        if isinstance(op, Map) and op.function == "mul" and self._covers(scale, source):
            for factor, other in (op.arguments, op.arguments[::-1]):
                joined = self.b.space.join(self.b.types[factor].axes, self.b.types[by].axes)
                if not set(self.b.types[source].axes) <= set(joined):
                    return self.b.map("mul", self.b.map(function, factor, by), other)
        return self.b.map(function, scale, by)

    def _covers(self, ref: Ref, source: Ref) -> bool:
        return set(self.b.types[source].axes) <= set(self.b.types[ref].axes)

    def _moved(self, ref: Ref, by: Ref, along: set[str], function: str) -> _Copies | None:
        """Copies plus or minus something narrow, which is their centre while they have no scale."""
        copies = self._of(ref, by, along)
        if copies is None:
            return None
        if function == "sub" and copies == _Copies(copies.source):
            return replace(copies, centre=by)
        moved = by if function == "add" else self.b.map("neg", by)
        shift = moved if copies.shift is None else self.b.map("add", copies.shift, moved)
        return replace(copies, shift=shift)

    def _moved_back(self, by: Ref, ref: Ref, along: set[str], function: str) -> _Copies | None:
        """Something narrow plus or minus copies."""
        if function == "sub":
            copies = self._scaled(ref, self.b.number(-1), along)
            if copies is None or self._of(ref, by, along) is None:
                return None
            shift = by if copies.shift is None else self.b.map("add", copies.shift, by)
            return replace(copies, shift=shift)
        return self._moved(ref, by, along, "add")
