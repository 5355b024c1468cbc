"""The sweep plan of a program: its passes over the data, and the values between them.

A value is *wide* when it has all axes of the first input. Each sweep recomputes the wide values
that it needs; none is stored. A sweep accumulates statistics of wide values and writes wide
outputs; narrow values are computed between sweeps. Parts of the data that exchange nothing before
the outputs are known are *islands*: all sweeps of an island can run while it is in the cache. The
plan knows nothing of memory layout, threads or targets.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from metanorm.ir.accumulation import Accumulation, accumulation_of, joint_statistic
from metanorm.ir.aggregation import Aggregation, ByIndex, Reach
from metanorm.ir.nodes import (
    AxisMap,
    Concat,
    Input,
    Let,
    Lookup,
    Piece,
    Pool,
    Recurrence,
    Ref,
    Rename,
    Type,
)
from metanorm.ir.operands import cut_axes, operands
from metanorm.ir.ops import ORDERED
from metanorm.ir.program import Program


@dataclass(frozen=True)
class Reduction:
    """A statistic that a sweep accumulates; `mean` and `var` of the same elements are one.

    No later sweep reads `terminal` results, so that islands need not wait for them.
    """

    value: Ref
    over: Aggregation
    cells: tuple[str, ...]
    where: Ref | None
    weight: Ref | None
    results: tuple[tuple[str, Ref], ...]  # each statistic, with the value that it defines
    terminal: bool

    @property
    def row(self) -> Accumulation:
        """The accumulation that gives all results."""
        return accumulation_of(frozenset(name for name, _ in self.results))

    @property
    def kind(self) -> str:
        """The statistic of the accumulation, such as `sum`, `mean` or `var`."""
        return self.row.statistic

    @property
    def is_weighted(self) -> bool:
        """Whether the reduction has a mask or weights."""
        return self.where is not None or self.weight is not None


@dataclass(frozen=True)
class Sweep:
    """One pass over the data, and the narrow values that later sweeps need from it."""

    reads: tuple[str, ...]  # the wide inputs
    maps: tuple[Let, ...]  # the wide values, in order
    reductions: tuple[Reduction, ...]
    outputs: tuple[tuple[str, Ref], ...]
    narrow: tuple[Let, ...]  # computed after it, per island


@dataclass(frozen=True)
class Plan:
    """The narrow values before all sweeps, the sweeps, and the narrow values after them."""

    program: Program
    data_axes: tuple[str, ...]  # the axes of wide values
    group_index: str | None  # the index input that groups an axis of the data
    grouped_axis: str | None  # the axis that it groups
    islands: tuple[str, ...]
    prologue: tuple[Let, ...]
    sweeps: tuple[Sweep, ...]
    epilogue: tuple[Let, ...]

    def type_of(self, ref: Ref) -> Type:
        """The type of a value."""
        return self.program.index.types[ref]

    @property
    def group_axis(self) -> str | None:
        """The axis that enumerates the groups of rows."""
        return group_axis_of(self.program, self.grouped_axis)

    @property
    def extra_axes(self) -> tuple[str, ...]:
        """The axes of what is larger than the data, beside those of the data."""
        wide_axes = [let.type.axes for let in self.program.body
                     if set(self.data_axes) <= set(let.type.axes)]  # fmt: skip
        larger = {axis for axes in wide_axes for axis in axes}.difference(self.data_axes)
        return tuple(self.program.index.space.ordered(larger))

    def determined_axes(self, axes: Iterable[str]) -> set[str]:
        """The axes whose position follows from that along `axes`: a row determines its group."""
        return with_group_axis(axes, self.grouped_axis, self.group_axis)

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """The reductions of all sweeps. Their order defines their numbers."""
        return tuple(r for sweep in self.sweeps for r in sweep.reductions)


def group_axis_of(program: Program, grouped_axis: str | None) -> str | None:
    """The axis that enumerates the groups of a grouped axis."""
    axes = program.index.space
    return next((a.name for a in axes if a.cells_of and a.cells_of[0] == grouped_axis), None)


def with_group_axis(
    axes: Iterable[str], grouped_axis: str | None, group_axis: str | None
) -> set[str]:
    """The axes, and the axis of groups if the axis of the grouped rows is among them."""
    determined = set(axes)
    return (
        determined | {group_axis}
        if group_axis is not None and grouped_axis in determined
        else determined
    )


def plan_sweeps(program: Program) -> Plan:
    """The sweep plan of a program without modes.

    Every program has one. `metanorm.nest.eligibility` decides whether kernels can execute it.
    """
    return _SweepPlanner(program).run()


class _ReductionKey(NamedTuple):
    """What two statistics must share to be accumulated as one reduction."""

    kind: str
    value: Ref
    over: Aggregation
    where: Ref | None
    weight: Ref | None


class _SweepPlanner:
    def __init__(self, program: Program) -> None:
        self.program = program
        self.space, self.lets = program.index.space, program.index.lets
        first = program.inputs[0]
        self.data_axes = tuple(leaf for dim in first.dims for leaf in self.space.leaves(dim))
        self.depth: dict[Ref, int] = {}

    def run(self) -> Plan:
        """Number the sweeps by depth: the depth of a value is how many sweeps it waits for."""
        for let in self.program.body:
            depth = max((self.depth[r] for r in operands(let.op)), default=0)
            self.depth[let.name] = depth + self._measured(let)
        wide_outputs = [(name, ref) for name, ref in self.program.outputs if self.is_wide(ref)]
        sweep_count = max((self.depth[ref] + 1 for _, ref in wide_outputs), default=0)
        sweep_count = max([sweep_count, *(self.depth[let.name] for let in self.program.body)])
        needed_after = [self._feeding(number, wide_outputs) for number in range(1, sweep_count + 1)]
        sweeps = tuple(
            self._sweep(n, needed_after[n - 1], wide_outputs) for n in range(1, sweep_count + 1)
        )
        placed = {let.name for sweep in sweeps for let in sweep.narrow}
        placed |= {ref for sweep in sweeps for r in sweep.reductions for _, ref in r.results}
        narrow = [let for let in self.program.body if not self.is_wide(let.name)]
        prologue = tuple(let for let in narrow if self.depth[let.name] == 0)
        epilogue = tuple(let for let in narrow if self.depth[let.name] and let.name not in placed)
        group_index, grouped_axis = self._groups()
        islands = self._islands(
            set().union(*needed_after) if needed_after else set(), group_index, grouped_axis
        )
        return Plan(
            self.program,
            self.data_axes,
            group_index,
            grouped_axis,
            islands,
            prologue,
            sweeps,
            epilogue,
        )

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value has all axes of the data."""
        return set(self.data_axes) <= set(self.lets[ref].type.axes)

    def _measured(self, let: Let) -> bool:
        """Whether a value is a statistic of wide values."""
        if not isinstance(let.op, Pool) or let.op.statistic in ORDERED:
            return False
        return self.is_wide(let.op.value) and not self.is_wide(let.name)

    def _is_scan_of_elements(self, let: Let) -> bool:
        """Whether a sweep pools what is around each element, or moves a state along them."""
        overlaps = isinstance(let.op, Pool) and any(isinstance(m, Reach) for _, m in let.op.over)
        return (overlaps or isinstance(let.op, Recurrence)) and self.is_wide(let.name)

    # ---- sweeps

    def _feeding(self, number: int, wide_outputs: Iterable[tuple[str, Ref]]) -> set[Ref]:
        """All values that the sweeps after this number depend on."""
        roots = [ref for _, ref in wide_outputs if self.depth[ref] >= number]
        for let in self.program.body:
            if self._measured(let) and self.depth[let.name] > number:
                roots += operands(let.op)
        return self.program.index.closure(roots)

    def _sweep(
        self, number: int, needed_after: set[Ref], wide_outputs: Iterable[tuple[str, Ref]]
    ) -> Sweep:
        measured = [
            let
            for let in self.program.body
            if self._measured(let) and self.depth[let.name] == number
        ]
        outputs = tuple((n, ref) for n, ref in wide_outputs if self.depth[ref] == number - 1)
        needed_refs = {ref for _, ref in outputs}
        for let in measured:
            needed_refs |= {r for r in operands(let.op) if self.is_wide(r)}
        maps: list[Let] = []
        for let in reversed(self.program.body):
            if let.name in needed_refs:
                needed_refs |= {r for r in operands(let.op) if self.is_wide(r)}
                maps.append(let)
        reads = tuple(let.op.name for let in reversed(maps) if isinstance(let.op, Input))
        narrow = tuple(
            let
            for let in self.program.body
            if self.depth[let.name] == number
            and let.name in needed_after
            and not self.is_wide(let.name)
            and let not in measured
        )
        return Sweep(
            reads, tuple(reversed(maps)), self._reductions(measured, needed_after), outputs, narrow
        )

    def _reductions(self, measured: list[Let], needed_after: set[Ref]) -> tuple[Reduction, ...]:
        """The reductions of some statistics; the mean and variance of the same elements are one."""
        results_by_key: dict[_ReductionKey, list[tuple[str, Ref]]] = {}
        for let in measured:
            assert isinstance(let.op, Pool)
            op = let.op
            key = _ReductionKey(
                joint_statistic(op.statistic), op.value, op.over, op.where, op.weight
            )
            results_by_key.setdefault(key, []).append((op.statistic, let.name))
        reductions = []
        for key, results in results_by_key.items():
            _, value, over, where, weight = key
            cells = self.lets[results[0][1]].type.axes
            terminal = not any(ref in needed_after for _, ref in results)
            reductions.append(
                Reduction(value, over, cells, where, weight, tuple(results), terminal)
            )
        return tuple(reductions)

    # ---- islands

    def _groups(self) -> tuple[str | None, str | None]:
        """The index that groups an axis of the data, and that axis. Kernels sort rows by at most
        one index."""
        groupings: set[tuple[str | None, str | None]] = {
            (axis.cells_of[1].index, axis.cells_of[0])
            for axis in self.space
            if axis.cells_of
            and isinstance(axis.cells_of[1], ByIndex)
            and axis.cells_of[0] in self.data_axes
        }
        return min(groupings, default=(None, None))

    def _islands(
        self, feeding_refs: set[Ref], group_index: str | None, grouped_axis: str | None
    ) -> tuple[str, ...]:
        """The axes along which no value is pooled that a later sweep depends on, or the same one
        if its pools overlap."""
        group_axis = group_axis_of(self.program, grouped_axis)
        islands = [*([group_axis] if group_axis else []), *self.data_axes]
        for let in self.program.body:
            feeds = let.name in feeding_refs and self.depth[let.name] > 0
            if not feeds and not self._is_scan_of_elements(let):
                continue
            exchanging: set[str] = set()
            match let.op:
                case Pool(over=over):
                    for axis, matrix in over:
                        exchanging.add(axis)
                        if not isinstance(matrix, ByIndex) and axis == grouped_axis and group_axis:
                            exchanging.add(group_axis)
                case (
                    AxisMap(axis=axis) | Recurrence(axis=axis)
                    | Lookup(axis=axis) | Rename(old=axis)
                ):  # fmt: skip
                    exchanging.add(axis)
                    if axis == grouped_axis and group_axis:  # it may read rows of other groups
                        exchanging.add(group_axis)
                case Piece() | Concat():
                    exchanging |= {*cut_axes(let.op, self.space), *let.type.axes}
            islands = [a for a in islands if a not in exchanging]
        return tuple(islands)
