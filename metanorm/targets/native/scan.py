"""Scans as C: lines of cells are copied side by side, scanned by `metanorm/scan.h`, and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metanorm.ir.aggregation import Reach
from metanorm.ir.nodes import Let, Pool, Ref
from metanorm.ir.scalar import Scalar
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Choice,
    Declare,
    Do,
    Element,
    Expr,
    Filled,
    For,
    Infix,
    Name,
    Prefix,
    Set,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.values import Values

ZERO, ONE = cir.Number(0), cir.Number(1)
VALUE, WEIGHT, FIRST, SECOND, SPARE = (
    Name(f"{part}_lines") for part in ("value", "weight", "first", "second", "spare")
)
BEGIN, LANE, LANES = Name("begin"), Name("i"), Name("lanes")
Bounds = Callable[[str], tuple[Expr, Expr]]  # the range of an axis that is worked on


def scans_of(lets: Sequence[Let]) -> list[Let]:
    """The values that scans find."""
    return [let for let in lets if isinstance(let.op, Pool) and reach_of(let.op) is not None]


def reach_of(op: Pool) -> tuple[str, Reach] | None:
    """The axis of a scan, and how far it reaches there."""
    found = [(axis, matrix) for axis, matrix in op.over if isinstance(matrix, Reach)]
    return found[0] if found else None


class ScanPrinter:
    """Prints one scan; of a mean and a variance of the same values, both."""

    def __init__(self, values: Values, results: Sequence[Ref]) -> None:
        lets = [values.lets[ref] for ref in results]
        op = lets[0].op
        assert isinstance(op, Pool)
        near = reach_of(op)
        assert near is not None
        self.v, self.f, self.op = values, values.f, op
        self.axis, self.reach = near
        self.results = {let.op.statistic: let.name for let in lets if isinstance(let.op, Pool)}
        self.let = lets[0]
        order = self.f.order(op.value) if not values.inline(op.value) else self.let.type.axes
        others = [axis for axis in self.let.type.axes if axis != self.axis]
        self.lane = others[-1] if others else None
        self.outer = others[:-1]
        self.down = bool(order) and order[-1] != self.axis  # lines lie across rows of memory
        self.sums = op.statistic == "sum"
        self.weighed = not self.sums and (op.where is not None or op.weight is not None)

    def statements(self, bounds: Bounds, worker: Expr) -> list[Stmt]:
        """The scan at one place of the outer axes, in the memory of a worker."""
        low, high = bounds(self.lane) if self.lane else (ZERO, ONE)
        lanes = Apply("least", (Name("LANES"), Infix("-", high, BEGIN)))
        body: list[Stmt] = [Declare("const int64_t", "lanes", lanes)]
        body += self._memory(worker)
        body += self._copied()
        body.append(self._scan())
        body += self._written()
        return [For("begin", low, high, tuple(body), step=Name("LANES"))]

    # ---- memory

    def _memory(self, worker: Expr) -> list[Stmt]:
        """Lines, one behind the other. A past is written where its values were."""
        begin = Infix("+", Name("v->scratch.memory"), _times(worker, Name("v->scratch.size")))
        volume = Infix("*", self.f.size(self.axis), LANES)
        body: list[Stmt] = [Declare("const int64_t", "lines_room", volume)]
        places: list[Name] = []
        for name in self._lines():
            place = Infix("+", places[-1], Name("lines_room")) if places else begin
            body.append(Declare("double *", name.text, place))
            places.append(name)
        return body

    def _lines(self) -> list[Name]:
        """The lines that have memory of their own, in order."""
        found = [VALUE, WEIGHT] if self.weighed else [VALUE]
        if _is_past(self.reach):
            return found if self.sums or self.weighed else [*found, SECOND]
        return [*found, FIRST, *([] if self.sums else [SECOND]), SPARE]

    def _line_of(self, result: Name) -> Name:
        """Where a result is written."""
        if result in self._lines():
            return result
        return WEIGHT if result == SECOND and self.weighed else VALUE

    def _place(self) -> Expr:
        """Where the number of this position and lane is."""
        k = Name(self.f.variables[self.axis])
        return Infix("+", Infix("*", k, LANES), LANE)

    def _through(self, statements: Sequence[Stmt]) -> list[Stmt]:
        """A loop through all numbers of the lines, along the rows of the array outside."""
        k, size = self.f.variables[self.axis], self.f.size(self.axis)
        if self.down:
            inner = For("i", ZERO, LANES, tuple(statements), simd=True)
            return [For(k, ZERO, size, (inner,))]
        return [For("i", ZERO, LANES, (For(k, ZERO, size, tuple(statements)),))]

    def _at(self) -> dict[str, Expr]:
        at = self.v.here(self.let.type.axes)
        if self.lane is not None:
            at[self.lane] = Infix("+", BEGIN, LANE)
        return at

    # ---- what is read, and what is written

    def _copied(self) -> list[Stmt]:
        at = self._at()
        value = self.v.value(self.op.value, at)
        weight = self._weight(at)
        if weight is None:
            return self._through([Set(Element(VALUE, self._place()), "=", value)])
        share = Declare("const double", "share", weight)
        some = Infix("!=", Name("share"), ZERO)
        if self.weighed:
            return self._through(
                [
                    share,
                    Set(Element(WEIGHT, self._place()), "=", Name("share")),
                    Set(Element(VALUE, self._place()), "=", Choice(some, value, ZERO)),
                ]
            )
        product = Choice(some, Infix("*", Name("share"), value), ZERO)
        return self._through([share, Set(Element(VALUE, self._place()), "=", product)])

    def _weight(self, at: dict[str, Expr]) -> Expr | None:
        """What a cell counts, where that is not one."""
        given = (self.op.where, self.op.weight)
        where, weight = (None if ref is None else self.v.value(ref, at) for ref in given)
        return weight if where is None else Choice(where, weight or ONE, ZERO)

    def _scan(self) -> Stmt:
        far = Infix("-", self.f.size(self.axis), ONE)
        ends = (self.reach.back, self.reach.ahead)
        reach = [far if end is None else self._least(end, far) for end in ends]
        function = "scan_sums" if self.sums else "scan_weighed" if self.weighed else "scan_moments"
        found = [self._line_of(FIRST), self._line_of(FIRST if self.sums else SECOND)]
        names = (VALUE, WEIGHT if self.weighed else VALUE, *found, self._line_of(SPARE))
        line = Filled("lines", (*names, self.f.size(self.axis), LANES, *reach, LANES))
        return Do(Apply(function, (Prefix("&", line),)))

    def _least(self, end: Scalar, far: Expr) -> Expr:
        return Apply("least", (self.f.scalar(end, whole=True), far))

    def _written(self) -> list[Stmt]:
        at, place = self._at(), self._place()
        written: list[Stmt] = []
        for statistic, ref in self.results.items():
            found = Element(self._line_of(SECOND if statistic == "var" else FIRST), place)
            written.append(Set(self.v.value(ref, at), "=", Prefix("(real)", found)))
        return self._through(written)


def _times(worker: Expr, size: Expr) -> Expr:
    return ZERO if worker == ZERO else Infix("*", worker, size)


def _is_past(reach: Reach) -> bool:
    """Whether a running total from one end is all that it takes."""
    return reach.back is None or reach.ahead is None


def _parts(op: Pool) -> int:
    near = reach_of(op)
    assert near is not None
    weighed = op.where is not None or op.weight is not None
    if op.statistic == "sum":
        return 1 if _is_past(near[1]) else 3
    return 2 if _is_past(near[1]) else 7 if weighed else 5


def room_of(context: KernelContext, scans: Sequence[Let]) -> Expr:
    """The numbers that a worker keeps for the largest scan."""
    found: Expr | None = None
    for let in scans:
        assert isinstance(let.op, Pool)
        near = reach_of(let.op)
        assert near is not None
        others = [axis for axis in let.type.axes if axis != near[0]]
        lanes: Expr = Apply("least", (Name("LANES"), context.size(others[-1]))) if others else ONE
        each = cir.product(cir.Number(_parts(let.op)), lanes)
        volume = Apply("times", (each, context.size(near[0])))
        found = volume if found is None or found == volume else Apply("most", (found, volume))
    assert found is not None
    return found
