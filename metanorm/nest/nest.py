"""The kernel IR on one page: the arrays of a kernel, and its blocks of statements in order.

`nest_from_plan` builds a nest from a sweep plan, `verify` checks its rules, `metanorm inspect
--stage nest` shows it, and every target with kernels prints it. A nest decides which values lie in
arrays, which elements are pooled into which cells, and what waits for what. It knows nothing of
strides, vectors, tiles, threads, warps, dtypes in memory or targets: printers decide these.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from metanorm.ir.nodes import Kind, Let, Ref
from metanorm.ir.program import Program
from metanorm.nest.arguments import Field
from metanorm.nest.layouts import AxisGroup, Layout
from metanorm.nest.statements import (
    Accumulate,
    Compute,
    Finish,
    Gather,
    Load,
    Pool,
    Scan,
    Statement,
    Store,
    Update,
)
from metanorm.passes.directions import Direction
from metanorm.plan.sweeps import Reduction, with_group_axis

# ---- the tensors of a call


@dataclass(frozen=True, slots=True)
class Array:
    """A tensor of the call, with its axes in the order of its dimensions.

    `data` and `result` arrays are as large as the first input; a sweep reads or writes each of
    their elements once. The other roles have one value per cell, except `edges`, an edge list.
    The forward kernel stores `saved` statistics for the backward kernel. When an `optional` array
    is missing, each of its elements counts as `absent`.
    """

    name: str
    role: Literal["data", "result", "given", "index", "edges", "returned", "saved"]
    axes: AxisGroup
    kind: Kind = "real"
    optional: bool = False
    absent: float = 0.0


# ---- blocks of statements


@dataclass(frozen=True)
class Block:
    """Statements that run together.

    A `sweep` block runs once per element of the data, all others run per cell. `begin` runs first
    and `end` when all islands are complete. `before` the first sweep, `between` two sweeps and
    `after` the last one, the worker that has an island computes the cells of that island.
    """

    when: Literal["begin", "before", "sweep", "between", "after", "end"]
    statements: tuple[Statement, ...] = ()

    @cached_property
    def lets(self) -> tuple[Let, ...]:
        """The bindings that this block reads or computes, in order, without finished reductions."""
        kinds = (Load, Compute, Gather, Pool, Scan)
        return tuple(s.let for s in self.statements if isinstance(s, kinds))

    @cached_property
    def scans(self) -> tuple[Scan, ...]:
        """The scans of this block."""
        return tuple(s for s in self.statements if isinstance(s, Scan))

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """The names of the arrays that this block reads."""
        return tuple(s.array for s in self.statements if isinstance(s, Load))

    @cached_property
    def measures(self) -> tuple[int, ...]:
        """The numbers of the reductions that accumulate elements in this block."""
        return tuple(s.reduction for s in self.statements if isinstance(s, Accumulate))

    @cached_property
    def finished(self) -> tuple[int, ...]:
        """The numbers of the reductions that are complete when this block starts."""
        reduction_numbers = (s.reduction for s in self.statements if isinstance(s, Finish))
        return tuple(dict.fromkeys(reduction_numbers))

    @cached_property
    def writes(self) -> tuple[tuple[str, Ref], ...]:
        """The names of the arrays that this block writes, each with its value."""
        return tuple((s.array, s.value) for s in self.statements if isinstance(s, Store))

    @cached_property
    def updates(self) -> tuple[Update, ...]:
        """The buffer updates of this block."""
        return tuple(s for s in self.statements if isinstance(s, Update))


# ---- the nest


@dataclass(frozen=True)
class Nest:
    """One kernel of a norm: a direction of a variant, for one layout of the data.

    `loops` are the axes of the data, outermost first; memory is contiguous along the last one. One
    loop covers all parts of a split axis that are contiguous. Values that are larger than the data
    vary along the `extra_axes` too, whose loops come first; an element has several such values, of
    which none outlives it. When an index input groups rows,
    `group_index` names it, `grouped_axis` is the axis of the rows and `group_axis` that of the
    groups. Along the `islands` axes nothing is exchanged before the end, so that all sweeps of an
    island can run while the island is in a cache. `program` has the axes, their lengths, and the
    operation of each value.
    """

    variant: str
    direction: Direction
    layout: Layout
    program: Program
    loops: tuple[AxisGroup, ...]
    data_axes: AxisGroup
    extra_axes: AxisGroup
    group_index: str | None
    grouped_axis: str | None
    group_axis: str | None
    islands: AxisGroup
    arrays: tuple[Array, ...]
    fields: tuple[Field, ...]  # the arguments of a call, numbers and lengths among them
    kept: tuple[str, ...]  # the names of the statistics saved for the backward kernel
    followed_dtypes: tuple[str, ...]  # tensors to whose dtypes values are rounded
    reductions: tuple[Reduction, ...]
    blocks: tuple[Block, ...]

    @cached_property
    def sweeps(self) -> tuple[Block, ...]:
        """The blocks that run per element of the data."""
        return tuple(block for block in self.blocks if block.when == "sweep")

    @cached_property
    def between(self) -> tuple[Block, ...]:
        """For each sweep, the block that runs between it and the next one."""
        return tuple(block for block in self.blocks if block.when == "between")

    def block(self, when: Literal["begin", "before", "after", "end"]) -> Block:
        """The only block of this kind."""
        return next(block for block in self.blocks if block.when == when)

    @cached_property
    def array(self) -> dict[str, Array]:
        """Arrays by name."""
        return {array.name: array for array in self.arrays}

    @cached_property
    def axis_orders(self) -> dict[Ref, AxisGroup]:
        """The axes of values that are loaded or stored, in the dimension order of their array."""
        loads = [s for _, s in self.statements() if isinstance(s, Load)]
        stores = [s for _, s in self.statements() if isinstance(s, (Store, Update))]
        axes_by_ref = {s.let.name: self.array[s.array].axes for s in loads}
        for s in stores:
            axes_by_ref.setdefault(s.value, self.array[s.array].axes)
        return axes_by_ref

    @cached_property
    def finishes(self) -> dict[Ref, Finish]:
        """The `Finish` statement of each statistic of the data."""
        return {s.let.name: s for _, s in self.statements() if isinstance(s, Finish)}

    def statements(self) -> Iterator[tuple[Block, Statement]]:
        """All statements in order, each with its block."""
        for block in self.blocks:
            for statement in block.statements:
                yield block, statement

    @cached_property
    def whole_axes(self) -> AxisGroup:
        """The axes of the loops that no workers divide among themselves."""
        scanned = dict.fromkeys(scan.axis for sweep in self.sweeps for scan in sweep.scans)
        return (*self.extra_axes, *scanned)

    def determined_axes(self, axes: Iterable[str]) -> set[str]:
        """The axes whose position follows from that along `axes`: a row determines its group."""
        return with_group_axis(axes, self.grouped_axis, self.group_axis)

    def is_wide(self, ref: Ref) -> bool:
        """Whether a value is as large as the data."""
        return set(self.data_axes) <= set(self.program.index.types[ref].axes)
