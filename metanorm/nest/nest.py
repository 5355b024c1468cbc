"""A kernel as data, on one page: what it is given, and what it computes from that in which order.

A nest is made of a sweep plan (`nest_from_plan`), held to its rules (`verify`), shown by
`metanorm inspect --stage nest`, and printed by every target with kernels. It decides what is
computed where: which values lie in arrays, which elements are pooled into which cells, what waits
for what. It knows nothing of strides, vectors, tiles, threads or warps, of the types in memory, and
of any target: these are the printers' part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Union

from metanorm.ir.nodes import Kind, Let, Program, Ref
from metanorm.nest.arguments import Field
from metanorm.nest.layouts import AxisGroup, Layout
from metanorm.passes.directions import Direction
from metanorm.plan.sweeps import Reduction, with_group_axis

# What costs no more to compute again than it would to read.
CHEAP_FUNCTIONS = frozenset("add sub mul div neg where eq ne".split())

# ---- what a kernel is given


@dataclass(frozen=True, slots=True)
class Array:
    """A tensor of the call, with its axes in the order of its dimensions.

    `data` and `result` are as large as the first input: each element is read, or written, once in a
    sweep. The others have a value for each cell, but for `edges`, which lead from some places along
    an axis to others. `saved` are measured values, which the forward
    kernel leaves to the backward one. Where an array that is `optional` is not given, each element
    of it counts as `absent`.
    """

    name: str
    role: Literal["data", "result", "given", "index", "edges", "returned", "saved"]
    axes: AxisGroup
    kind: Kind = "real"
    optional: bool = False
    absent: float = 0.0


# ---- statements, each for one element of the data, or for one cell


@dataclass(frozen=True, slots=True)
class Load:
    """The value of an array at this place."""

    let: Let
    array: str


@dataclass(frozen=True, slots=True)
class Compute:
    """An elementwise function of values at this place, or a number that is known from lengths."""

    let: Let


@dataclass(frozen=True, slots=True)
class Gather:
    """A value of a cell at another place along one axis: of a fixed row, or under another name."""

    let: Let


@dataclass(frozen=True, slots=True)
class Pool:
    """A statistic of the values of cells, or weights of them that sum to one."""

    let: Let


@dataclass(frozen=True, slots=True)
class Scan:
    """A statistic, for each position along one axis of cells, of those that are near: their pools
    overlap."""

    let: Let


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Take this element into the cells of a reduction, by its number."""

    reduction: int


@dataclass(frozen=True, slots=True)
class Finish:
    """What a reduction has found, in each of its cells."""

    let: Let
    reduction: int
    statistic: str


@dataclass(frozen=True, slots=True)
class Store:
    """Write a value to an array."""

    array: str
    value: Ref


@dataclass(frozen=True, slots=True)
class Update:
    """Write a value to a buffer, or move that towards it by the momentum that is called so."""

    array: str
    value: Ref
    momentum: str | None = None


Statement = Union[Load, Compute, Gather, Pool, Scan, Accumulate, Finish, Store, Update]
BindingStatement = (
    Load,
    Compute,
    Gather,
    Pool,
    Scan,
    Finish,
)  # statements that give a value a name


@dataclass(frozen=True)
class Block:
    """Statements that are done together.

    A `sweep` goes through the data once. Everything else is done for each cell: at the `begin`ning,
    once; `before` the first sweep, `between` two, or `after` the last, for the cells of an island,
    by whoever has that at hand; and at the `end`, when all islands are done.
    """

    when: Literal["begin", "before", "sweep", "between", "after", "end"]
    statements: tuple[Statement, ...] = ()

    @cached_property
    def lets(self) -> tuple[Let, ...]:
        """The values that are computed here, or read, in order; not what reductions have found."""
        kinds = (Load, Compute, Gather, Pool, Scan)
        return tuple(s.let for s in self.statements if isinstance(s, kinds))

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The arrays that are read."""
        return tuple(s.array for s in self.statements if isinstance(s, Load))

    @cached_property
    def measures(self) -> tuple[int, ...]:
        """The reductions that take elements in."""
        return tuple(s.reduction for s in self.statements if isinstance(s, Accumulate))

    @cached_property
    def finished(self) -> tuple[int, ...]:
        """The reductions that are complete when this begins."""
        reduction_numbers = (s.reduction for s in self.statements if isinstance(s, Finish))
        return tuple(dict.fromkeys(reduction_numbers))

    @cached_property
    def writes(self) -> tuple[tuple[str, Ref], ...]:
        """The arrays that are written, and their values."""
        return tuple((s.array, s.value) for s in self.statements if isinstance(s, Store))

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The buffers that follow values."""
        return tuple(s for s in self.statements if isinstance(s, Update))


# ---- the nest


@dataclass(frozen=True)
class Nest:
    """One kernel of a norm: a direction of a variant, for one layout of the data.

    `loops` are the axes of the data, outermost first, along the last of which memory runs; parts of
    a split axis that lie in one piece are looped over as one. Where an index puts rows into groups,
    `cell` is the axis of groups and `grouped` that of rows. `islands` are the axes along which
    nothing is exchanged before the end: all sweeps of an island can run while it is in a cache.
    `program` has the axes and their lengths, and what each value is.
    """

    variant: str
    direction: Direction
    layout: Layout
    program: Program
    loops: tuple[AxisGroup, ...]
    data_axes: AxisGroup
    group_index: str | None
    grouped_axis: str | None
    group_axis: str | None
    islands: AxisGroup
    arrays: tuple[Array, ...]
    fields: tuple[Field, ...]  # all that a call brings, numbers and lengths among it
    kept: tuple[str, ...]  # the names of what is saved
    followed_dtypes: tuple[str, ...]  # of these tensors: what values are rounded to
    reductions: tuple[Reduction, ...]
    blocks: tuple[Block, ...]

    @cached_property
    def sweeps(self) -> tuple[Block, ...]:
        """The blocks that go through the data."""
        return tuple(block for block in self.blocks if block.when == "sweep")

    @cached_property
    def between(self) -> tuple[Block, ...]:
        """For each sweep, what follows from it before the next one."""
        return tuple(block for block in self.blocks if block.when == "between")

    def block(self, when: Literal["begin", "before", "after", "end"]) -> Block:
        """The one block that is done then."""
        return next(block for block in self.blocks if block.when == when)

    @cached_property
    def array(self) -> dict[str, Array]:
        """Arrays by name."""
        return {array.name: array for array in self.arrays}

    @cached_property
    def axis_orders(self) -> dict[Ref, AxisGroup]:
        """The axes of values that come from arrays or go there, in the order of these."""
        loads = [s for _, s in self.statements() if isinstance(s, Load)]
        stores = [s for _, s in self.statements() if isinstance(s, (Store, Update))]
        axes_by_ref = {s.let.name: self.array[s.array].axes for s in loads}
        for s in stores:
            axes_by_ref.setdefault(s.value, self.array[s.array].axes)
        return axes_by_ref

    @cached_property
    def finishes(self) -> dict[Ref, Finish]:
        """Where each statistic of the data comes from."""
        return {s.let.name: s for _, s in self.statements() if isinstance(s, Finish)}

    def statements(self) -> Iterator[tuple[Block, Statement]]:
        """All statements in order, each with its block."""
        for block in self.blocks:
            for statement in block.statements:
                yield block, statement

    def determined_axes(self, axes: Iterable[str]) -> set[str]:
        """The axes whose place is known at a place along some: a row knows its group."""
        return with_group_axis(axes, self.grouped_axis, self.group_axis)

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value is as large as the data."""
        return set(self.data_axes) <= set(self.program.index.types[ref].axes)

    @property
    def statistic_cells(self) -> tuple[AxisGroup, ...]:
        """The cells of statistics, by axes that are not split."""
        space = self.program.index.space
        return tuple(dict.fromkeys(space.unsplit(r.cells) for r in self.reductions))
