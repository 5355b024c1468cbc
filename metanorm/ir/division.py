"""Axes that are divided among processes: which values are complete, and which are of a piece.

A process has a piece of each divided axis. Its length may be zero, and may differ among processes.
A value that has the axis is divided, too. A value without the axis is either *complete*, the same
on all processes, or it is a sum over the local piece, or the largest or smallest value in it, which
an exchange completes. `parts_of` tells them apart, and rejects a program that lacks an exchange,
makes one twice, or makes a sum where a largest value is wanted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from metanorm.ir.aggregation import Aggregation, ByIndex, Grouping, Neighbours, Ones, segments_of
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
    Joining,
    Let,
    Lookup,
    Map,
    Near,
    Number,
    Op,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.program import Program
from metanorm.ir.scalar import Const, Scalar, SizeOf
from metanorm.ir.scalar import leaves as leaves_of
from metanorm.ir.space import Space

DividedAxes = frozenset[str]


@dataclass(frozen=True, slots=True)
class Part:
    """What a process knows of a value that pools over divided axes: what is of its piece alone.

    Parts are joined over `axes`. A value without any is complete.
    """

    axes: DividedAxes = frozenset()
    joined: Joining = "sum"

    def __bool__(self) -> bool:
        return bool(self.axes)

    def __str__(self) -> str:
        axes = ", ".join(sorted(self.axes))
        kind = {"sum": "a sum", "max": "a largest value", "min": "a smallest value"}[self.joined]
        return f"a part of {kind} over {axes}"

    def among(self, axes: DividedAxes) -> Part:
        """The part with those of its axes alone that are among these."""
        return replace(self, axes=self.axes & axes) if self.axes & axes else COMPLETE


COMPLETE = Part()
# How the parts of a statistic are joined. That of any other statistic is not known from its parts.
JOINED: Mapping[str, Joining] = {
    "sum": "sum", "gaps": "sum", "squares": "sum", "ties": "sum", "max": "max", "min": "min",
}  # fmt: skip
LINEAR_FUNCTIONS = ("add", "sub", "neg", "where")


class IllDivided(Exception):
    """A use of what a piece has as a complete value, or of a complete value as that of a piece."""


class Division:
    """The divided axes of a program, and which axes, pools and lengths they affect."""

    def __init__(self, program: Program) -> None:
        self.space = Space(program.axes)
        self.axes = frozenset(program.divided)
        self.tables = {i.name for i in program.inputs if i.sort == "index" and i.table is not None}
        self._divided_axes_cache: dict[tuple[str, ...], DividedAxes] = {}

    def divides(self, axis: str) -> bool:
        """Whether each process has a piece of an axis, or of its cells."""
        return self.space.base(axis) in self.axes and not self._is_shared(axis)

    def divided_axes(self, axes: Iterable[str]) -> DividedAxes:
        """The divided axes among those of a value."""
        key = tuple(axes)
        if key not in self._divided_axes_cache:
            divided = frozenset(self.space.base(axis) for axis in key if self.divides(axis))
            self._divided_axes_cache[key] = divided
        return self._divided_axes_cache[key]

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
        has some. Every so many positions lie on several.
        """
        if segments_of(grouping) is not None:
            return True
        if isinstance(grouping, RegularPartition):
            return grouping.is_consecutive
        return isinstance(grouping, Neighbours) or (
            isinstance(grouping, ByIndex) and grouping.index not in self.tables
        )

    def summed_axes(self, over: Aggregation) -> DividedAxes:
        """The divided axes over which a pool is a partial sum.

        A pool over an axis takes each of its positions, also of a value of cells. One that names
        the axis of cells takes each cell once.
        """
        return frozenset(
            self.space.base(axis)
            for axis, grouping in over
            if self.divides(axis) and self.spans_processes(grouping)
        )

    def reads_length(self, scalar: Scalar) -> bool:
        """Whether a scalar depends on the length of a divided axis."""
        divided_dims = {
            axis.name for axis in self.space if self.axes & {*self.space.leaves(axis.name)}
        }
        return any(
            isinstance(leaf, SizeOf) and leaf.axis in divided_dims for leaf in leaves_of(scalar)
        )


def parts_of(program: Program) -> dict[Ref, Part]:
    """What each value is a part of.

    Raises `IllDivided` for a part of a sum that is read by anything but a sum, a product with a
    complete value or an exchange, for a part of a largest value that is read by anything but its
    exchange and what counts its ties, and for an exchange of anything but such a part.
    """
    parts: dict[Ref, Part] = {}
    types = {let.name: let.type for let in program.body}
    _Parts(Division(program), types, parts).body(program.body)
    results = [(name, ref) for name, ref in program.outputs]
    results += [(update.buffer, update.value) for update in program.updates]
    results += [(u.buffer, u.elements) for u in program.updates if u.elements]
    for name, ref in results:
        if parts[ref]:
            raise IllDivided(f"{name} is {ref}, which is {parts[ref]}")
    return parts


class _Parts:
    def __init__(self, division: Division, types: dict[Ref, Type], parts: dict[Ref, Part]) -> None:
        self.division = division
        self.types = types
        self.parts = parts
        self.zeros: set[Ref] = set()  # zeros: each is both a partial sum and complete
        self.detached: set[Ref] = set()  # values without their gradient
        self.counts: set[Ref] = set()
        self.equal_to: dict[Ref, Ref] = {}  # a number of ties to the value that they equal

    def body(self, lets: Sequence[Let]) -> None:
        for let in lets:
            self.types[let.name] = let.type
            try:
                self.parts[let.name] = self.of(let.op)
            except IllDivided as error:
                raise IllDivided(f"{let.name}: {error}") from None
            split_and_partial = self.parts[let.name].among(
                self.division.divided_axes(let.type.axes)
            )
            if split_and_partial:
                raise IllDivided(f"{let.name} has axes, and is {split_and_partial}")
            match let.op:
                case Number(Const(0.0)):
                    self.zeros.add(let.name)
                case Detach():
                    self.detached.add(let.name)
                case Count():
                    self.counts.add(let.name)
                case Pool("ties", about=about) if about is not None:
                    self.equal_to[let.name] = about

    def of(self, op: Op) -> Part:
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
            case Swept():
                return self._swept(op)
            case ToSum():
                return self._to_sum(op)
            case Piece(value, piece):
                if self._cuts_divided(piece):
                    raise IllDivided(f"a piece of {piece}, of which each process has some")
                return self.parts[value]
            case Rename(value, old, new):
                if self.division.divides(old) or self.division.divides(new):
                    raise IllDivided(f"another name for the piece of {old}")
                return self.parts[value]
            case Expand(value) | Detach(value) | Cast(value):
                return self.parts[value]
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
                if set(op.axes) != self.division.summed_axes(op.over):
                    raise IllDivided("a number near the mean, not of all processes")
            case AxisMap(axis=axis) | Recurrence(axis=axis) | Lookup(axis=axis) | Position(axis):
                if self.division.divides(axis):
                    raise IllDivided(f"what belongs to the whole of {axis}")
            case Inside(piece) if self._cuts_divided(piece):
                raise IllDivided(f"where {piece} is, of which each process has some")
            case Concat(axis=axis) if self.division.divides(axis):
                raise IllDivided(f"pieces of {axis} that are joined")
            case Draw(axes=axes) if self.division.divided_axes(axes):
                raise IllDivided("random numbers for a piece of an axis")

    def _count(self, op: Count) -> Part:
        weights = [ref for ref in (op.where, op.weight) if ref is not None]
        self._demand_whole(weights)
        self._demand_pools(op.over)
        return Part(self.division.summed_axes(op.over))

    def _exchange(self, op: Exchange) -> Part:
        part, axes = self.parts[op.value], frozenset(op.axes)
        if not axes or not axes <= part.axes:
            raise IllDivided(f"an exchange of {op.value} over what it is no part of")
        if part.joined != op.operation:
            raise IllDivided(f"{op.operation} of what is {part}")
        if op.is_sum:
            return part.among(part.axes - axes)
        self._demand_ties(op, part)
        return COMPLETE

    def _demand_ties(self, op: Exchange, part: Part) -> None:
        """Raise `IllDivided` unless an exchange of extremes counts those that equal its value.

        If it has no gradient, any count of the same elements does.
        """
        if op.ties is None or self.parts[op.ties] != Part(frozenset(op.axes)):
            raise IllDivided(f"an exchange of {part} without a count of its elements")
        if part.axes != frozenset(op.axes):
            raise IllDivided(f"an exchange of {part} over {', '.join(op.axes)} alone")
        has_others = self.equal_to.get(op.ties, op.value) != op.value
        if has_others or (op.ties in self.counts and op.value not in self.detached):
            raise IllDivided(f"an exchange of {op.value} with the ties of another value")

    def _swept(self, op: Swept) -> Part:
        """What a sweep has measured; a largest value is read where the sweep counts its ties."""
        joined = {self.parts[ref] for ref in op.values if self.parts[ref]}
        extremes = {part for part in joined if part.joined != "sum"}
        self._demand_whole(ref for ref in op.values if self.parts[ref] not in extremes)
        part = Part(frozenset(op.part_of), op.joined)
        if any(extreme.axes != part.axes or part.joined != "sum" for extreme in extremes):
            raise IllDivided("a sweep that reads what is of one piece alone")
        return part

    def _to_sum(self, op: ToSum) -> Part:
        """A sum over the piece that all parts measure, about a number that is complete."""
        self._demand_whole([op.near] if op.near else [])
        measured = {self.parts[ref] for ref in op.parts}
        if len(measured) > 1:
            raise IllDivided("a sum of what was measured over several pieces")
        return measured.pop()

    def _repeat(self, op: Repeat) -> Part:
        self._demand_whole(op.initial)
        for inside, initial in zip(op.inside, op.initial):
            self.types[inside], self.parts[inside] = self.types[initial], COMPLETE
        self.body(op.body)
        self._demand_whole(op.results)
        return COMPLETE

    def _cuts_divided(self, piece: str) -> bool:
        piece_of = self.division.space[piece].piece_of
        return piece_of is not None and self.division.divides(piece_of[0])

    def _demand_whole(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if self.parts[ref]:
                raise IllDivided(f"{ref} is {self.parts[ref]}, and is used as a whole")

    def _map(self, function: str, arguments: tuple[Ref, ...]) -> Part:
        """A sum of partial sums is partial, and so is the product of one with a complete value."""
        self._demand_whole(ref for ref in arguments if self.parts[ref].joined != "sum")
        summands = arguments[1:] if function == "where" else arguments
        if function in LINEAR_FUNCTIONS:
            self._demand_whole(arguments[:1] if function == "where" else ())
            distinct = {self.parts[ref] for ref in summands if ref not in self.zeros}
            if len(distinct) > 1:
                raise IllDivided(f"{function} of a part and of a whole")
            return next(iter(distinct), COMPLETE)
        if function in ("mul", "div"):
            first, second = (self.parts[ref] for ref in arguments)
            if second and (first or function == "div"):
                raise IllDivided(f"{function} by {second}")
            return first or second
        self._demand_whole(arguments)
        return COMPLETE

    def _pool(self, op: Pool) -> Part:
        part = self.parts[op.value]
        counts_ties = op.statistic == "ties"
        about = None if counts_ties else op.about
        self._demand_whole(r for r in (op.where, op.weight, about) if r is not None)
        self._demand_pools(op.over)
        summed = self.division.summed_axes(op.over)
        is_linear = op.statistic in ("sum", "mean") and op.weight is None
        if part and not (is_linear and part.joined == "sum"):
            raise IllDivided(f"{op.statistic} of {part}")
        if summed and op.statistic not in JOINED:
            raise IllDivided(f"{op.statistic} over a piece of {', '.join(sorted(summed))}")
        if counts_ties and (op.about is None or self.parts[op.about].axes != summed):
            raise IllDivided("ties with a value of other elements")
        joined_as = JOINED[op.statistic] if summed else "sum"
        return Part(part.axes | summed, joined_as)

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
