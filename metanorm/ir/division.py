"""Axes that are divided among processes: which values are whole, and which are a part of a sum.

A process has a piece of each divided axis, with a length of its own that may be zero. A value that
has the axis is divided like it. A value without it is either *whole*, the same on all processes, or
a *part*: a sum over this process's piece alone, right only once all processes have added theirs up.
`parts` tells them apart, and refuses programs in which an exchange is missing or is made twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from metanorm.ir.aggregation import REGULAR, Aggregation, ByIndex, Grouping, Neighbours, Ones
from metanorm.ir.nodes import (
    AxisMap,
    Count,
    Draw,
    Exchange,
    Expand,
    FromSums,
    Let,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Op,
    Pool,
    Position,
    Program,
    Ref,
    Rename,
    Repeat,
    Type,
)
from metanorm.ir.operands import operands
from metanorm.ir.scalar import Const, Scalar, SizeOf
from metanorm.ir.scalar import leaves as leaves_of
from metanorm.ir.space import Space

DividedAxes = frozenset[str]  # the divided axes over which a value is a part of a sum
WHOLE: DividedAxes = frozenset()
ADDED = ("sum", "gaps", "squares")  # statistics that parts add up to
LINEAR = ("add", "sub", "neg", "where")


class IllDivided(Exception):
    """A value that is used as if it were whole, or as if it were not."""


class Division:
    """The divided axes of a program, and what lies on a piece of one of them."""

    def __init__(self, program: Program) -> None:
        self.space = Space(program.axes)
        self.axes = frozenset(program.divided)
        self.tables = {i.name for i in program.inputs if i.sort == "index" and i.table is not None}

    def divides(self, axis: str) -> bool:
        """Whether each process has a piece of an axis. Cells of a piece lie on its process."""
        return self.space.base(axis) in self.axes and not self._is_shared(axis)

    def divided_axes(self, axes: Iterable[str]) -> DividedAxes:
        """The divided axes among those of a value."""
        return frozenset(self.space.base(axis) for axis in axes if self.divides(axis))

    def _is_shared(self, axis: str) -> bool:
        """Whether an axis enumerates cells that all processes have, such as domains."""
        cells_of = self.space[axis].cells_of
        return cells_of is not None and self.spans_processes(cells_of[1])

    def spans_processes(self, matrix: Grouping) -> bool:
        """Whether pools of a matrix on a divided axis have positions on all processes."""
        return isinstance(matrix, Ones) or (
            isinstance(matrix, ByIndex) and matrix.index in self.tables
        )

    def stays_on_one_process(self, matrix: Grouping) -> bool:
        """Whether each pool of a matrix on a divided axis lies on one process: those of graphs,
        which are not cut, and blocks, where pieces begin and end with one."""
        return isinstance(matrix, (*REGULAR, Neighbours)) or (
            isinstance(matrix, ByIndex) and matrix.index not in self.tables
        )

    def summed_axes(self, over: Aggregation, axes: Sequence[str]) -> DividedAxes:
        """The divided axes over which a pool of a value on `axes` is a part of a sum."""
        there = {self.space.base(axis): axis for axis in axes}
        return frozenset(
            base
            for axis, matrix in over
            if (base := self.space.base(axis)) in self.axes
            and self.spans_processes(matrix)
            and self.divides(there.get(base, axis))
        )

    def reads_length(self, scalar: Scalar) -> bool:
        """Whether a number depends on how long a divided axis is."""
        wholes = {axis.name for axis in self.space if self.axes & {*self.space.leaves(axis.name)}}
        return any(isinstance(leaf, SizeOf) and leaf.axis in wholes for leaf in leaves_of(scalar))


def partial_sums(program: Program) -> dict[Ref, DividedAxes]:
    """Over which divided axes each value is a part of a sum.

    Raises `IllDivided` where a part goes anywhere but into sums, products with whole values and an
    exchange, and where what is exchanged is no part.
    """
    found: dict[Ref, DividedAxes] = {}
    types = {let.name: let.type for let in program.body}
    _Rules(Division(program), types, found).body(program.body)
    results = [(name, ref) for name, ref in program.outputs]
    results += [(update.buffer, update.value) for update in program.updates]
    results += [(u.buffer, u.elements) for u in program.updates if u.elements]
    for name, ref in results:
        if found[ref]:
            raise IllDivided(f"{name} is {ref}, which is {_of(found[ref])}")
    return found


def _of(axes: DividedAxes) -> str:
    return f"a part of a sum over {', '.join(sorted(axes))}"


class _Rules:
    def __init__(
        self, division: Division, types: dict[Ref, Type], found: dict[Ref, DividedAxes]
    ) -> None:
        self.division = division
        self.types = types
        self.found = found
        self.zeros: set[Ref] = set()  # what is a part and whole at once

    def body(self, lets: Sequence[Let]) -> None:
        for let in lets:
            self.types[let.name] = let.type
            try:
                self.found[let.name] = self.of(let.op)
            except IllDivided as error:
                raise IllDivided(f"{let.name}: {error}") from None
            both = self.found[let.name] & self.division.divided_axes(let.type.axes)
            if both:
                raise IllDivided(f"{let.name} has axes, and is {_of(both)}")
            if let.op == Number(Const(0.0)):
                self.zeros.add(let.name)

    def of(self, op: Op) -> DividedAxes:
        match op:
            case Number(value):
                if self.division.reads_length(value):
                    raise IllDivided("a length of this process alone")
                return WHOLE
            case Map(function, arguments):
                return self._map(function, arguments)
            case Pool():
                return self._pool(op)
            case Count(over, where, weight):
                self._whole(r for r in (where, weight) if r is not None)
                axes = [a for r in (where, weight) if r is not None for a in self.types[r].axes]
                self._demand_pools(over)
                return self.division.summed_axes(over, axes)
            case Exchange(value, axes):
                if not axes or not set(axes) <= self.found[value]:
                    raise IllDivided(f"an exchange of {value} over what it is no part of")
                return self.found[value] - set(axes)
            case Near(over=over, axes=axes):
                self._whole(operands(op))
                joined = [axis for ref in operands(op) for axis in self.types[ref].axes]
                if set(axes) != self.division.summed_axes(over, joined):
                    raise IllDivided("a number near the mean, not of all processes")
                return WHOLE
            case FromSums():
                self._whole(operands(op))
                return WHOLE
            case AxisMap(axis=axis) | Lookup(axis=axis) | Position(axis):
                self._whole(operands(op))
                if self.division.divides(axis):
                    raise IllDivided(f"what belongs to the whole of {axis}")
                return WHOLE
            case Rename(value, old, new):
                if self.division.divides(old) or self.division.divides(new):
                    raise IllDivided(f"another name for the piece of {old}")
                return self.found[value]
            case Draw(axes=axes):
                if self.division.divided_axes(axes):
                    raise IllDivided("random numbers for a piece of an axis")
                return WHOLE
            case Expand(value):
                return self.found[value]
            case Mode(train, evaluated):
                self._whole((train, evaluated))
                return WHOLE
            case Repeat():
                self._whole(op.initial)
                for inside, initial in zip(op.inside, op.initial):
                    self.types[inside], self.found[inside] = self.types[initial], WHOLE
                self.body(op.body)
                self._whole(op.results)
                return WHOLE
            case _:
                read = operands(op)
                return self.found[read[0]] if read else WHOLE

    def _whole(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            if self.found[ref]:
                raise IllDivided(f"{ref} is {_of(self.found[ref])}, and is used as a whole")

    def _map(self, function: str, arguments: tuple[Ref, ...]) -> DividedAxes:
        """DividedAxes add up to parts, and may be multiplied by what is whole."""
        chosen = arguments[1:] if function == "where" else arguments
        if function in LINEAR:
            self._whole(arguments[:1] if function == "where" else ())
            kinds = {self.found[ref] for ref in chosen if ref not in self.zeros}
            if len(kinds) > 1:
                raise IllDivided(f"{function} of a part and of a whole")
            return next(iter(kinds), WHOLE)
        if function in ("mul", "div"):
            first, second = (self.found[ref] for ref in arguments)
            if second and (first or function == "div"):
                raise IllDivided(f"{function} by {_of(second)}")
            return first or second
        self._whole(arguments)
        return WHOLE

    def _pool(self, op: Pool) -> DividedAxes:
        own = self.found[op.value]
        self._whole(r for r in (op.where, op.weight, op.about) if r is not None)
        joined = [
            axis
            for ref in (op.value, op.where, op.weight)
            if ref is not None
            for axis in self.types[ref].axes
        ]
        self._demand_pools(op.over)
        added = self.division.summed_axes(op.over, joined)
        linear = op.statistic in ("sum", "mean") and op.weight is None
        if own and not linear:
            raise IllDivided(f"{op.statistic} of {_of(own)}")
        if added and op.statistic not in ADDED:
            raise IllDivided(f"{op.statistic} over a piece of {', '.join(sorted(added))}")
        return own | added

    def _demand_pools(self, over: Aggregation) -> None:
        for axis, matrix in over:
            divided = self.division.divides(axis)
            if divided and not (
                self.division.spans_processes(matrix) or self.division.stays_on_one_process(matrix)
            ):
                raise IllDivided(f"a pool that needs the whole of {axis}")


def message_depths(program: Program) -> dict[Ref, int]:
    """How many messages each value waits for, one after the other."""
    found: dict[Ref, int] = {}
    for let in program.body:
        before = max((found.get(ref, 0) for ref in operands(let.op)), default=0)
        found[let.name] = before + isinstance(let.op, Exchange)
    return found


def exchanges(program: Program) -> Mapping[Ref, Exchange]:
    """The exchanges of a program, those in loops too."""
    found: dict[Ref, Exchange] = {}
    lets = list(program.body)
    while lets:
        let = lets.pop()
        if isinstance(let.op, Exchange):
            found[let.name] = let.op
        elif isinstance(let.op, Repeat):
            lets += let.op.body
    return found
