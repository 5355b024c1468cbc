"""Axes that are divided among processes: which values are complete, and which are partial sums.

A process has a piece of each divided axis. Its length may be zero, and may differ among processes.
A value that has the axis is divided, too. A value without the axis is either *complete*, the same
on all processes, or a *partial sum* over the local piece, which an exchange completes.
`partial_sums` tells them apart, and rejects a program that lacks an exchange or makes one twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from metanorm.ir.aggregation import (
    REGULAR,
    Aggregation,
    ByIndex,
    Grouping,
    Neighbours,
    Ones,
    segments_of,
)
from metanorm.ir.nodes import (
    AxisMap,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Exchange,
    Expand,
    Inside,
    Let,
    Lookup,
    Map,
    Near,
    Number,
    Op,
    Piece,
    Pool,
    Position,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.scalar import Const, Scalar, SizeOf
from metanorm.ir.scalar import leaves as leaves_of
from metanorm.ir.space import Space

DividedAxes = frozenset[str]  # the divided axes over which a value is a partial sum
COMPLETE: DividedAxes = frozenset()
SUMMED_STATISTICS = ("sum", "gaps", "squares")  # statistics whose partial sums add up
LINEAR_FUNCTIONS = ("add", "sub", "neg", "where")


class IllDivided(Exception):
    """A use of a partial sum as a complete value, or of a complete value as a partial sum."""


class Division:
    """The divided axes of a program, and which axes, pools and lengths they affect."""

    def __init__(self, program: Program) -> None:
        self.space = Space(program.axes)
        self.axes = frozenset(program.divided)
        self.tables = {i.name for i in program.inputs if i.sort == "index" and i.table is not None}

    def divides(self, axis: str) -> bool:
        """Whether each process has a piece of an axis, or of its cells."""
        return self.space.base(axis) in self.axes and not self._is_shared(axis)

    def divided_axes(self, axes: Iterable[str]) -> DividedAxes:
        """The divided axes among those of a value."""
        return frozenset(self.space.base(axis) for axis in axes if self.divides(axis))

    def _is_shared(self, axis: str) -> bool:
        """Whether an axis enumerates cells that all processes have, such as domains."""
        cells_of = self.space[axis].cells_of
        return cells_of is not None and self.spans_processes(cells_of[1])

    def spans_processes(self, grouping: Grouping) -> bool:
        """Whether the pools of a grouping of a divided axis have positions on all processes."""
        return isinstance(grouping, Ones) or (
            isinstance(grouping, ByIndex) and grouping.index in self.tables
        )

    def stays_on_one_process(self, grouping: Grouping) -> bool:
        """Whether each pool of a grouping of a divided axis lies on one process.

        Those of graphs and segments do, which no division cuts, and blocks, of which each process
        has some.
        """
        if segments_of(grouping) is not None:
            return True
        return isinstance(grouping, (*REGULAR, Neighbours)) or (
            isinstance(grouping, ByIndex) and grouping.index not in self.tables
        )

    def summed_axes(self, over: Aggregation, axes: Sequence[str]) -> DividedAxes:
        """The divided axes over which the pool of a value on `axes` is a partial sum."""
        axis_by_base = {self.space.base(axis): axis for axis in axes}
        return frozenset(
            base
            for axis, grouping in over
            if (base := self.space.base(axis)) in self.axes
            and self.spans_processes(grouping)
            and self.divides(axis_by_base.get(base, axis))
        )

    def reads_length(self, scalar: Scalar) -> bool:
        """Whether a scalar depends on the length of a divided axis."""
        divided_dims = {
            axis.name for axis in self.space if self.axes & {*self.space.leaves(axis.name)}
        }
        return any(
            isinstance(leaf, SizeOf) and leaf.axis in divided_dims for leaf in leaves_of(scalar)
        )


def partial_sums(program: Program) -> dict[Ref, DividedAxes]:
    """The divided axes over which each value is a partial sum.

    Raises `IllDivided` for a partial sum that is read by anything but a sum, a product with a
    complete value or an exchange, and for an exchange of anything but a partial sum.
    """
    partial_axes: dict[Ref, DividedAxes] = {}
    types = {let.name: let.type for let in program.body}
    _PartialSums(Division(program), types, partial_axes).body(program.body)
    results = [(name, ref) for name, ref in program.outputs]
    results += [(update.buffer, update.value) for update in program.updates]
    results += [(u.buffer, u.elements) for u in program.updates if u.elements]
    for name, ref in results:
        if partial_axes[ref]:
            raise IllDivided(f"{name} is {ref}, which is {_partial_text(partial_axes[ref])}")
    return partial_axes


def _partial_text(axes: DividedAxes) -> str:
    return f"a part of a sum over {', '.join(sorted(axes))}"


class _PartialSums:
    def __init__(
        self, division: Division, types: dict[Ref, Type], partial_axes: dict[Ref, DividedAxes]
    ) -> None:
        self.division = division
        self.types = types
        self.partial_axes = partial_axes
        self.zeros: set[Ref] = set()  # zeros: each is both a partial sum and complete

    def body(self, lets: Sequence[Let]) -> None:
        for let in lets:
            self.types[let.name] = let.type
            try:
                self.partial_axes[let.name] = self.of(let.op)
            except IllDivided as error:
                raise IllDivided(f"{let.name}: {error}") from None
            split_and_partial = self.partial_axes[let.name] & self.division.divided_axes(
                let.type.axes
            )
            if split_and_partial:
                raise IllDivided(f"{let.name} has axes, and is {_partial_text(split_and_partial)}")
            if let.op == Number(Const(0.0)):
                self.zeros.add(let.name)

    def of(self, op: Op) -> DividedAxes:
        match op:
            case Map(function, arguments):
                return self._map(function, arguments)
            case Pool():
                return self._pool(op)
            case Count():
                return self._count(op)
            case Exchange():
                return self._exchange(op)
            case Repeat():
                return self._repeat(op)
            case Swept(values=values, part_of=part_of):
                self._demand_whole(values)
                return frozenset(part_of)
            case ToSum():
                return self._to_sum(op)
            case Piece(value, piece):
                if self._cuts_divided(piece):
                    raise IllDivided(f"a piece of {piece}, of which each process has some")
                return self.partial_axes[value]
            case Rename(value, old, new):
                if self.division.divides(old) or self.division.divides(new):
                    raise IllDivided(f"another name for the piece of {old}")
                return self.partial_axes[value]
            case Expand(value) | Detach(value) | Cast(value):
                return self.partial_axes[value]
            case _:
                self._demand_whole(operands(op))
                self._demand_complete(op)
                return COMPLETE

    def _demand_complete(self, op: Op) -> None:
        """Raise `IllDivided` if an operation on complete values has no complete result."""
        match op:
            case Number(value) if self.division.reads_length(value):
                raise IllDivided("a length of this process alone")
            case Near():
                joined = [axis for ref in operands(op) for axis in self.types[ref].axes]
                if set(op.axes) != self.division.summed_axes(op.over, joined):
                    raise IllDivided("a number near the mean, not of all processes")
            case AxisMap(axis=axis) | Lookup(axis=axis) | Position(axis):
                if self.division.divides(axis):
                    raise IllDivided(f"what belongs to the whole of {axis}")
            case Inside(piece) if self._cuts_divided(piece):
                raise IllDivided(f"where {piece} is, of which each process has some")
            case Concat(axis=axis) if self.division.divides(axis):
                raise IllDivided(f"pieces of {axis} that are joined")
            case Draw(axes=axes) if self.division.divided_axes(axes):
                raise IllDivided("random numbers for a piece of an axis")

    def _count(self, op: Count) -> DividedAxes:
        weights = [ref for ref in (op.where, op.weight) if ref is not None]
        self._demand_whole(weights)
        self._demand_pools(op.over)
        axes = [axis for ref in weights for axis in self.types[ref].axes]
        return self.division.summed_axes(op.over, axes)

    def _exchange(self, op: Exchange) -> DividedAxes:
        partial = self.partial_axes[op.value]
        if not op.axes or not set(op.axes) <= partial:
            raise IllDivided(f"an exchange of {op.value} over what it is no part of")
        return partial - set(op.axes)

    def _to_sum(self, op: ToSum) -> DividedAxes:
        """A sum over the piece that all parts measure, about a number that is complete."""
        self._demand_whole([op.near] if op.near else [])
        measured = {self.partial_axes[ref] for ref in op.parts}
        if len(measured) > 1:
            raise IllDivided("a sum of what was measured over several pieces")
        return measured.pop()

    def _repeat(self, op: Repeat) -> DividedAxes:
        self._demand_whole(op.initial)
        for inside, initial in zip(op.inside, op.initial):
            self.types[inside], self.partial_axes[inside] = self.types[initial], COMPLETE
        self.body(op.body)
        self._demand_whole(op.results)
        return COMPLETE

    def _cuts_divided(self, piece: str) -> bool:
        piece_of = self.division.space[piece].piece_of
        return piece_of is not None and self.division.divides(piece_of[0])

    def _demand_whole(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if self.partial_axes[ref]:
                raise IllDivided(
                    f"{ref} is {_partial_text(self.partial_axes[ref])}, and is used as a whole"
                )

    def _map(self, function: str, arguments: tuple[Ref, ...]) -> DividedAxes:
        """A sum of partial sums is partial, and so is the product of one with a complete value."""
        summands = arguments[1:] if function == "where" else arguments
        if function in LINEAR_FUNCTIONS:
            self._demand_whole(arguments[:1] if function == "where" else ())
            distinct = {self.partial_axes[ref] for ref in summands if ref not in self.zeros}
            if len(distinct) > 1:
                raise IllDivided(f"{function} of a part and of a whole")
            return next(iter(distinct), COMPLETE)
        if function in ("mul", "div"):
            first, second = (self.partial_axes[ref] for ref in arguments)
            if second and (first or function == "div"):
                raise IllDivided(f"{function} by {_partial_text(second)}")
            return first or second
        self._demand_whole(arguments)
        return COMPLETE

    def _pool(self, op: Pool) -> DividedAxes:
        value_axes = self.partial_axes[op.value]
        self._demand_whole(r for r in (op.where, op.weight, op.about) if r is not None)
        joined = [
            axis
            for ref in (op.value, op.where, op.weight)
            if ref is not None
            for axis in self.types[ref].axes
        ]
        self._demand_pools(op.over)
        summed = self.division.summed_axes(op.over, joined)
        is_linear = op.statistic in ("sum", "mean") and op.weight is None
        if value_axes and not is_linear:
            raise IllDivided(f"{op.statistic} of {_partial_text(value_axes)}")
        if summed and op.statistic not in SUMMED_STATISTICS:
            raise IllDivided(f"{op.statistic} over a piece of {', '.join(sorted(summed))}")
        return value_axes | summed

    def _demand_pools(self, over: Aggregation) -> None:
        for axis, grouping in over:
            is_divided = self.division.divides(axis)
            if is_divided and not (
                self.division.spans_processes(grouping)
                or self.division.stays_on_one_process(grouping)
            ):
                raise IllDivided(f"a pool that needs the whole of {axis}")


def message_depths(program: Program) -> dict[Ref, int]:
    """The number of messages, one after the other, that each value waits for."""
    depths: dict[Ref, int] = {}
    for let in program.body:
        operand_depth = max((depths.get(ref, 0) for ref in operands(let.op)), default=0)
        depths[let.name] = operand_depth + isinstance(let.op, Exchange)
    return depths


def exchanges(program: Program) -> Mapping[Ref, Exchange]:
    """The exchanges of a program by value, those in loops included."""
    exchange_by_ref: dict[Ref, Exchange] = {}
    lets = list(program.body)
    while lets:
        let = lets.pop()
        if isinstance(let.op, Exchange):
            exchange_by_ref[let.name] = let.op
        elif isinstance(let.op, Repeat):
            lets += let.op.body
    return exchange_by_ref
