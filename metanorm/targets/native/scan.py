"""Print scans as C: copy lines of cells side by side, call `metanorm/scan.h`, store the results.

A line has all positions along the scanned axis. Up to `LANES` lines are scanned at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from metanorm.ir.aggregation import Reach
from metanorm.ir.nodes import Let, Pool, Recurrence, Ref
from metanorm.ir.scalar import Scalar
from metanorm.nest.statements import Scan, reach_of
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    CompoundLiteral,
    Conditional,
    Declare,
    Element,
    Expr,
    ExprStmt,
    For,
    Infix,
    Name,
    Prefix,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.members import argument, shared
from metanorm.targets.native.values import NarrowValues

ZERO, ONE = cir.Number(0), cir.Number(1)
VALUE, WEIGHT, FIRST, SECOND, SPARE = (
    Name(f"{part}_lines") for part in ("value", "weight", "first", "second", "spare")
)
SCRATCH = shared("scratch")
BEGIN, LANE, LANES = Name("begin"), Name("i"), Name("lanes")
SIDE_BY_SIDE: Expr = Infix("+", BEGIN, LANE)  # the position of a line among those beside it


@dataclass(frozen=True)
class Lines:
    """The lines of a scan. `at` has the position of a number of the scan's axis and of its line.

    Lines that lie side by side go from `low` to `high`. If they run `down`, their numbers are a row
    of memory apart from each other.
    """

    at: Mapping[str, Expr]
    low: Expr
    high: Expr
    down: bool


def lines_of_cells(
    values: NarrowValues, let: Let, bounds: Callable[[str], tuple[Expr, Expr]]
) -> tuple[list[str], Lines]:
    """The axes of the loops around a scan of narrow values, and its lines. `bounds` has those of a
    loop over an axis."""
    assert isinstance(let.op, (Pool, Recurrence))
    axis, value, axes = Scan(let).axis, let.op.value, let.type.axes
    order = values.ctx.axis_order(value) if not values.is_inline(value) else axes
    *outer, lane = [other for other in axes if other != axis] or [""]
    at = values.loop_positions(axes)
    low, high = bounds(lane) if lane else (ZERO, ONE)
    if lane:
        at[lane] = SIDE_BY_SIDE
    return outer, Lines(at, low, high, down=bool(order) and order[-1] != axis)


class ScanPrinter:
    """Prints one scan. A mean and a variance of the same values are one scan."""

    def __init__(self, values: NarrowValues, results: Sequence[Ref], lines: Lines) -> None:
        lets = [values.lets[ref] for ref in results]
        op = lets[0].op
        assert isinstance(op, Pool)
        axis_and_reach = reach_of(op)
        assert axis_and_reach is not None
        self.values, self.ctx, self.op = values, values.ctx, op
        self.axis, self.reach = axis_and_reach
        self.results = {let.op.statistic: let.name for let in lets if isinstance(let.op, Pool)}
        self.lines = lines
        self.sums = op.statistic == "sum"
        self.is_weighted = not self.sums and (op.where is not None or op.weight is not None)

    def statements(self, worker: Expr) -> list[Stmt]:
        """The scan at one position of the outer axes, in the scratch memory of a worker."""
        low, high = self.lines.low, self.lines.high
        lanes = Apply("min", (Name("LANES"), Infix("-", high, BEGIN)))
        body: list[Stmt] = [Declare("const int64_t", "lanes", lanes)]
        body += self._buffer_declarations(worker)
        body += self._copy_statements()
        body.append(self._scan_call())
        body += self._result_statements()
        return [For("begin", low, high, tuple(body), step=Name("LANES"))]

    # ---- memory

    def _buffer_declarations(self, worker: Expr) -> list[Stmt]:
        """The declarations of the line buffers, which lie one behind the other."""
        begin = worker_memory(worker)
        volume = Infix("*", self.ctx.size(self.axis), LANES)
        body: list[Stmt] = [Declare("const int64_t", "lines_room", volume)]
        buffers: list[Name] = []
        for name in self._buffers():
            address = Infix("+", buffers[-1], Name("lines_room")) if buffers else begin
            body.append(Declare("double *", name.text, address))
            buffers.append(name)
        return body

    def _buffers(self) -> list[Name]:
        """The line buffers of the scan, in order. A past overwrites its input."""
        buffers = [VALUE, WEIGHT] if self.is_weighted else [VALUE]
        if _is_past(self.reach):
            return buffers if self.sums or self.is_weighted else [*buffers, SECOND]
        return [*buffers, FIRST, *([] if self.sums else [SECOND]), SPARE]

    def _line_of(self, result: Name) -> Name:
        """The line buffer that receives a result."""
        if result in self._buffers():
            return result
        return WEIGHT if result == SECOND and self.is_weighted else VALUE

    def _line_index(self) -> Expr:
        """The index of the current position and lane in a line buffer."""
        k = Name(self.ctx.variables[self.axis])
        return Infix("+", Infix("*", k, LANES), LANE)

    def _line_loop(self, statements: Sequence[Stmt]) -> list[Stmt]:
        """A loop over all numbers of the lines, in the memory order of the array outside."""
        k, size = self.ctx.variables[self.axis], self.ctx.size(self.axis)
        if self.lines.down:
            inner = For("i", ZERO, LANES, tuple(statements), simd=True)
            return [For(k, ZERO, size, (inner,))]
        return [For("i", ZERO, LANES, (For(k, ZERO, size, tuple(statements)),))]

    # ---- reads and writes

    def _copy_statements(self) -> list[Stmt]:
        at = self.lines.at
        value = self.values.value(self.op.value, at)
        weight = self._weight(at)
        if weight is None:
            return self._line_loop([Assign(Element(VALUE, self._line_index()), "=", value)])
        share = Declare("const double", "share", weight)
        some = Infix("!=", Name("share"), ZERO)
        if self.is_weighted:
            return self._line_loop(
                [
                    share,
                    Assign(Element(WEIGHT, self._line_index()), "=", Name("share")),
                    Assign(Element(VALUE, self._line_index()), "=", Conditional(some, value, ZERO)),
                ]
            )
        product = Conditional(some, Infix("*", Name("share"), value), ZERO)
        return self._line_loop([share, Assign(Element(VALUE, self._line_index()), "=", product)])

    def _weight(self, at: Mapping[str, Expr]) -> Expr | None:
        """The weight of a cell; `None` if every cell has weight one."""
        refs = (self.op.where, self.op.weight)
        where, weight = (None if ref is None else self.values.value(ref, at) for ref in refs)
        return weight if where is None else Conditional(where, weight or ONE, ZERO)

    def _scan_call(self) -> Stmt:
        longest_reach = Infix("-", self.ctx.size(self.axis), ONE)
        ends = (self.reach.back, self.reach.ahead)
        reach = [
            longest_reach if end is None else self._clamped_reach(end, longest_reach)
            for end in ends
        ]
        function = (
            "scan_sums" if self.sums else "scan_weighed" if self.is_weighted else "scan_moments"
        )
        result_lines = [self._line_of(FIRST), self._line_of(FIRST if self.sums else SECOND)]
        names = (VALUE, WEIGHT if self.is_weighted else VALUE, *result_lines, self._line_of(SPARE))
        numbers = (self.ctx.size(self.axis), LANES, *reach, LANES)
        line = CompoundLiteral("lines", (*names, *numbers, self._labels()))
        return ExprStmt(Apply(function, (Prefix("&", line),)))

    def _labels(self) -> Expr:
        """The segment of each position, as the call brings it; `NULL` for a scan of whole lines."""
        if self.reach.within is None:
            return Name("NULL")
        labels = cir.dot(argument(self.ctx.name(self.reach.within)), "data")
        return Prefix("(const int64_t *)", labels)

    def _clamped_reach(self, end: Scalar, longest_reach: Expr) -> Expr:
        return Apply("min", (self.ctx.scalar(end, as_int=True), longest_reach))

    def _result_statements(self) -> list[Stmt]:
        at, line_index = self.lines.at, self._line_index()
        written: list[Stmt] = []
        for statistic, ref in self.results.items():
            result = Element(self._line_of(SECOND if statistic == "var" else FIRST), line_index)
            written.append(Assign(self.values.value(ref, at), "=", Prefix("(real)", result)))
        return self._line_loop(written)


def worker_memory(worker: Expr) -> Expr:
    """Where the scratch memory of a worker begins."""
    skipped = ZERO if worker == ZERO else Infix("*", worker, cir.dot(SCRATCH, "size"))
    return Infix("+", cir.dot(SCRATCH, "memory"), skipped)


def _is_past(reach: Reach) -> bool:
    """Whether a running total from one end gives the scan."""
    return reach.back is None or reach.ahead is None


def _line_count(op: Pool) -> int:
    axis_and_reach = reach_of(op)
    assert axis_and_reach is not None
    weighed = op.where is not None or op.weight is not None
    if op.statistic == "sum":
        return 1 if _is_past(axis_and_reach[1]) else 3
    return 2 if _is_past(axis_and_reach[1]) else 7 if weighed else 5


def scratch_size(context: KernelContext, scans: Sequence[Let]) -> Expr:
    """How many numbers of scratch memory a worker needs for the largest scan."""
    size: Expr | None = None
    for let in scans:
        assert isinstance(let.op, (Pool, Recurrence))
        scanned = Scan(let).axis
        other_axes = [axis for axis in let.type.axes if axis != scanned]
        lanes: Expr = Name("LANES")
        if not context.nest.is_wide(let.name):
            lanes = Apply("min", (lanes, context.size(other_axes[-1]))) if other_axes else ONE
        volume = lanes  # of states
        if isinstance(let.op, Pool):
            each = cir.product(cir.Number(_line_count(let.op)), lanes)
            volume = Apply("times", (each, context.size(scanned)))
        size = volume if size is None or size == volume else Apply("max", (size, volume))
    assert size is not None
    return size
