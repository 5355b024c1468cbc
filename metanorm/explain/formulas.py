"""The formulas of a sweep: of what it measures, computes from other elements, and writes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, count
from string import ascii_lowercase

from metanorm.ir.aggregation import Aggregation, Grouping, Reach, grouping_text, is_partition
from metanorm.ir.dump import dtype_text, init_text, scan_words
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Exchange,
    Expand,
    FromSums,
    Input,
    Inside,
    Link,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
)
from metanorm.ir.rename import role_of
from metanorm.ir.scalar import Scalar, scalar_text
from metanorm.plan.sweeps import Plan, Reduction, Sweep

COMPARISON, SUM, PRODUCT, ATOM = range(4)  # how tightly the outermost operation of a text binds
INFIX = {
    "lt": ("<", COMPARISON),
    "le": ("<=", COMPARISON),
    "eq": ("==", COMPARISON),
    "ne": ("!=", COMPARISON),
    "ge": (">=", COMPARISON),
    "gt": (">", COMPARISON),
    "add": ("+", SUM),
    "sub": ("-", SUM),
    "mul": ("*", PRODUCT),
    "div": ("/", PRODUCT),
}
# Wide values that a formula has in it. All others get a name and a formula of their own.
INLINE = (
    Map, Number, Input, Param, Buffer, Position, Inside, Expand, Detach, Cast, Rename, Draw, Piece,
)  # fmt: skip


@dataclass(frozen=True)
class SweepSteps:
    """What one sweep reads, computes from other elements, measures and writes, with formulas."""

    reads: tuple[str, ...]
    computes: tuple[str, ...]
    measures: tuple[str, ...]
    writes: tuple[str, ...]


def steps_of_sweeps(sweep_plan: Plan) -> tuple[SweepSteps, ...]:
    """The steps of each sweep of a plan."""
    formulas = _Formulas(sweep_plan)
    return tuple(map(formulas.steps, sweep_plan.sweeps))


@dataclass(frozen=True)
class _Term:
    """A formula, and how tightly its outermost operation binds."""

    text: str
    binds: int = ATOM

    def operand(self, loosest: int) -> str:
        """The text where looser operations than `loosest` need parentheses."""
        return self.text if self.binds >= loosest else f"({self.text})"


class _Formulas:
    """Formulas of wide values. Narrow values, and those from other elements, get short names."""

    def __init__(self, planned: Plan) -> None:
        self.lets = planned.program.index.lets
        self.wide = {let.name for sweep in planned.sweeps for let in sweep.maps}
        self.short: dict[Ref, str] = {}
        self.computed: set[Ref] = set()  # in an earlier sweep, whose line stands for all

    def steps(self, sweep: Sweep) -> SweepSteps:
        """The steps of one sweep. Sweeps come in order."""
        computes = tuple(self._computed(sweep))
        measures = tuple(map(self._reduction, sweep.reductions))
        writes = tuple(f"{name} = {self._term(ref).text}" for name, ref in sweep.outputs)
        return SweepSteps(sweep.reads, computes, measures, writes)

    def _computed(self, sweep: Sweep) -> Iterator[str]:
        """`m = scan(x over T, decay = a, start = b)`."""
        for let in sweep.maps:
            if not isinstance(let.op, INLINE) and let.name not in self.computed:
                self.computed.add(let.name)
                yield f"{self._name(let.name)} = {self._op_term(let.op, let.name).text}"

    def _reduction(self, r: Reduction) -> str:
        """`sum of d.output * (x - mean) weighted by trust where mask per C`."""
        title = "mean and variance" if len(r.row.statistics) > 1 else r.row.title
        matrices = tuple((axis, g) for axis, g in r.over if not is_partition(g))
        over = f" over {self._over_text(matrices)}" if matrices else ""
        cells = f" per {', '.join(r.cells)}" if r.cells else ""
        weights = self._clauses(r.where, r.weight, "weighted by")
        return f"{title} of {self._term(r.value).text}{over}{weights}{cells}"

    def _name(self, ref: Ref) -> str:
        """The name of a value: that of the spec, its role, or a letter."""
        if not ref.startswith("%"):
            return ref
        if ref not in self.short:
            role = role_of(ref)
            taken = {*self.lets, *self.short.values()}
            letters = (x + n for n in chain([""], map(str, count(1))) for x in ascii_lowercase)
            self.short[ref] = next(x for x in chain([role or ""], letters) if x and x not in taken)
        return self.short[ref]

    def _term(self, ref: Ref) -> _Term:
        op = self.lets[ref].op
        if isinstance(op, Number) or (ref in self.wide and isinstance(op, INLINE)):
            return self._op_term(op, ref)
        return _Term(self._name(ref))

    def _op_term(self, op: Op, ref: Ref) -> _Term:
        """The formula of an operation. What only copies a value has that of the value."""
        match op:
            case Map(function, arguments):
                return self._map_term(function, arguments)
            case Expand(value):
                return self._term(value)
            case Number(value):
                return _Term(scalar_text(value))
        return _Term(self._call_text(op, ref))

    def _call_text(self, op: Op, ref: Ref) -> str:
        """An operation that binds like a call, such as `stop(x)`, or a name."""
        match op:
            case Input() | Param() | Buffer() | Map() | Expand() | Number():
                return self._name(ref)
            case Position(axis):
                return f"position({axis})"
            case Inside(piece):
                return f"inside({piece})"
            case Detach(value):
                return f"stop({self._term(value).text})"
            case Cast(value, to):
                return f"cast({self._term(value).text} {dtype_text(to)})"
            case Rename(value, old, new):
                return f"{self._term(value).operand(ATOM)}[{old} -> {new}]"
            case Piece(value, piece):
                return f"{self._term(value).operand(ATOM)}[{piece}]"
            case Draw():
                return init_text(op)
        return self._elsewhere_text(op)

    def _elsewhere_text(
        self,
        op: Pool | Count | Recurrence | AxisMap | Lookup | Concat | Link | Mode | Repeat
        | Exchange | Near | FromSums | ToSum | Swept,
    ) -> str:  # fmt: skip
        """An operation that reads other elements than its own."""
        match op:
            case Pool():
                return self._pool_text(op)
            case Count(over, where, weight):
                return f"count(over {self._over_text(over)}{self._clauses(where, weight)})"
            case Recurrence(value, decay, start, axis):
                first = f"{scan_words(op)}({self._term(value).text} over {axis}"
                return (
                    f"{first}, decay = {self._term(decay).text}, start = {self._term(start).text})"
                )
            case AxisMap(function, value, axis, argument, adjoint):
                radius = f", {scalar_text(argument)}" if argument is not None else ""
                of = "" if adjoint is None else f", adjoint = {self._term(adjoint).text}"
                return f"{function}({self._term(value).text} over {axis}{radius}{of})"
            case Lookup(table, axis, index):
                row = index if isinstance(index, int) else self._term(index).text
                return f"{self._term(table).operand(ATOM)}[{axis} = {row}]"
            case Concat(values, _, axis):
                return f"concat({', '.join(self._term(v).text for v in values)} over {axis})"
            case Link(edges, target, source, loop):
                return f"links({edges}{' with self' if loop else ''} from {source} to {target})"
            case Mode(train, evaluated):
                return f"mode(train: {self._term(train).text}, eval: {self._term(evaluated).text})"
            case Repeat():
                return f"repeat({scalar_text(op.count)} times, from {self._texts(op.initial)})"
            case Exchange(value, axes, operation):
                return f"all-reduce {operation}({self._term(value).text} over {', '.join(axes)})"
            case Near(value, over):
                return f"near({self._term(value).text} over {self._over_text(over)})"
            case FromSums(statistic, sums):
                return f"{statistic} from {self._texts(sums)}"
            case ToSum(statistic, parts):
                return f"{statistic} of {self._texts(parts)}"
            case Swept(sweep, output, values):
                return f"{output} of sweep {sweep}({self._texts(values)})"

    def _texts(self, refs: tuple[Ref, ...]) -> str:
        return ", ".join(self._term(r).text for r in refs)

    def _pool_text(self, op: Pool) -> str:
        """`sum(x over T: 1 before to 1 after where mask)`."""
        about = f" about {self._term(op.about).text}" if op.about is not None else ""
        options = f", ddof = {op.ddof}" if op.ddof else ""
        options += f", {scalar_text(op.share)}" if op.share is not None else ""
        over = self._over_text(op.over) + self._clauses(op.where, op.weight)
        return f"{op.statistic}({self._term(op.value).text}{about} over {over}{options})"

    def _clauses(self, where: Ref | None, weight: Ref | None, weighted: str = "weight") -> str:
        weights = f" {weighted} {self._term(weight).text}" if weight is not None else ""
        mask = f" where {self._term(where).text}" if where is not None else ""
        return weights + mask

    def _over_text(self, over: Aggregation) -> str:
        return ", ".join(_axis_text(axis, grouping) for axis, grouping in over)

    def _map_term(self, function: str, arguments: tuple[Ref, ...]) -> _Term:
        if function == "rescale":
            return self._rescaled(arguments)
        terms = [self._term(a) for a in arguments]
        if function in INFIX:
            sign, binds = INFIX[function]
            left, right = terms
            first = left.operand(max(binds, SUM))  # comparisons do not chain
            return _Term(f"{first} {sign} {right.operand(binds + 1)}", binds)
        if function == "neg":
            return _Term(f"-{terms[0].operand(ATOM)}", SUM)
        return _Term(f"{function}({', '.join(term.text for term in terms)})")

    def _rescaled(self, arguments: tuple[Ref, ...]) -> _Term:
        x, centre, shift, *factors = (self._term(a) for a in arguments)
        result = x
        if centre.text != "0":
            result = _Term(f"{x.operand(SUM)} - {centre.operand(PRODUCT)}", SUM)
        if factors:
            product = " * ".join(term.operand(PRODUCT) for term in (result, *factors))
            result = _Term(product, PRODUCT)
        if shift.text != "0":
            result = _Term(f"{result.operand(SUM)} + {shift.text}", SUM)
        return result


def _axis_text(axis: str, grouping: Grouping) -> str:
    """`C`, `C: blocks(8)`, `T: 1 before to 1 after`."""
    if isinstance(grouping, Reach):
        within = f" within {grouping.within}" if grouping.within else ""
        return f"{axis}: {_end(grouping.back)} before to {_end(grouping.ahead)} after{within}"
    text = grouping_text(grouping)
    return axis if text == "ones" else f"{axis}: {text}"


def _end(length: Scalar | None) -> str:
    return "all" if length is None else scalar_text(length)
