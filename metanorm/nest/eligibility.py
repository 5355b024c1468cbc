"""Whether a norm can have kernels. Only this module decides it, and it prints nothing.

`ineligible` yields the reasons why a program has no kernels in any target, `unsupported` the
reasons that one of its plans has. The row of a target in `metanorm.targets.registry` says what that
target alone cannot do. Printers accept every eligible nest and never raise.
"""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.aggregation import ByIndex, Grouping, Neighbours, Ones, Reach
from metanorm.ir.dump import operation_name
from metanorm.ir.flags import choosing_flags
from metanorm.ir.index import closure
from metanorm.ir.nodes import (
    POINTWISE,
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Expand,
    Input,
    Inside,
    Let,
    Link,
    Lookup,
    Map,
    Mode,
    Number,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
    Repeat,
)
from metanorm.ir.operands import cut_axes, every_let, operands
from metanorm.ir.ops import CHEAP_FUNCTIONS, ORDERED
from metanorm.ir.program import Divisible, Program
from metanorm.ir.scalar import Const
from metanorm.ir.space import Space
from metanorm.nest.arguments import (
    axis_orders,
    dimensions,
    external_axis_orders,
    factors,
    size_argument_dims,
)
from metanorm.nest.matrix_products import (
    multiplies_data,
    multiplies_in_loops,
    only_multiplies_larger,
)
from metanorm.nest.vanishing import vanishes_with
from metanorm.passes.neighbours import rewritable
from metanorm.passes.positions import is_end
from metanorm.passes.runs import run_obstacles
from metanorm.passes.scans import SCANNED, scan_obstacles
from metanorm.plan.sweeps import Plan

MAX_VALUES = 250
MAX_FLAGS = 3
MAX_EXACT_INT = 2**24  # float32 holds all integers below it

NEIGHBOURS_REASON = "neighbours in a graph, whose pools overlap"
# torch's BLAS is as fast at matrix products: docs/performance.md has the measurements.
MATRIX_PRODUCTS_REASON = "matrix products, which torch's BLAS does as fast"
# Operations that sweeps compute per element of the data, and operations that run per cell.
WIDE_OPS = (Input, *POINTWISE)
PER_CELL_OPS = (
    Number, Position, Inside, Count, Input, Param, Buffer, *POINTWISE, Rename, Piece, Concat, Pool,
    Link,
)  # fmt: skip

MOVING_OPS = (AxisMap, Lookup, Rename, Piece, Concat)  # that read cells at other positions


class NoKernels(Exception):
    """The norm has no kernels and runs on the torch target alone. The message says why."""


def ineligible(program: Program) -> Iterator[str]:
    """The reasons why no target has kernels for an optimised program, as far as they show before it
    is split into variants, directions and layouts."""
    if len(program.body) > MAX_VALUES:
        yield f"more than {MAX_VALUES} values, which a compiler would take long for"
    if len(choosing_flags(program)) > MAX_FLAGS:
        yield "many flags, each of which doubles the number of kernels"
    if not program.inputs[0].dims:
        yield "an input without dimensions, which has no rows"
    for let in program.body:
        over = let.op.over if isinstance(let.op, (Pool, Count)) else ()
        if any(isinstance(m, Neighbours) for _, m in over) and not rewritable(let, program):
            yield NEIGHBOURS_REASON
        if isinstance(let.op, Pool) and let.op.statistic in ORDERED:
            yield "a statistic that is found in the order of the values"
    yield from run_obstacles(program)
    products = (multiplies_data, multiplies_in_loops, only_multiplies_larger)
    if any(multiplies(program) for multiplies in products):
        yield MATRIX_PRODUCTS_REASON
    space = Space(program.axes)
    for let in every_let(program.body):
        if isinstance(let.op, Cast) and let.op.to.has_eight_bits:
            yield "a value that is rounded to eight bits"
        if isinstance(let.op, Lookup) and isinstance(let.op.index, int):
            if is_end(let.op, program):
                continue
            length = space[let.op.axis].size  # kernels do not check a row against it
            if not isinstance(length, Const) or let.op.index < 0:
                yield "a position of an axis whose length a call decides"
    if any(dtype.has_eight_bits for _, dtype in program.output_dtypes):
        yield "an output in eight bits"
    if any(u.when != "train" for u in program.updates):
        yield "a buffer that changes in evaluation"
    counts = (check.by for check in program.checks if isinstance(check, Divisible))
    if any(factors(count, size_argument_dims(program)) is None for count in counts):
        yield "a number of parts that is computed"


def unsupported(plan: Plan) -> Iterator[str]:
    """The reasons why kernels cannot execute a plan."""
    eligibility = _Eligibility(plan)
    yield from eligibility.values()
    yield from eligibility.groups()
    yield from eligibility.lengths()
    yield from eligibility.axis_orders()
    yield from eligibility.cells()
    yield from eligibility.links()
    yield from eligibility.updates()


class _Eligibility:
    def __init__(self, plan: Plan) -> None:
        self.plan, self.program, self.index = plan, plan.program, plan.program.index
        self.data_axes = set(plan.data_axes)
        self.measured = {
            ref for sweep in plan.sweeps for r in sweep.reductions for _, ref in r.results
        }

    def _is_wide(self, ref: Ref) -> bool:
        return self.data_axes <= set(self.index.types[ref].axes)

    # ---- wide and narrow values

    def values(self) -> Iterator[str]:
        """Operations that have no kernel code, or none for values of this size."""
        for let in self.program.body:
            op = let.op
            if isinstance(op, (Mode, Repeat)):
                yield operation_name(op)
            if isinstance(op, Map):
                yield from self._comparison(op)
            yield from self._wide_value(let) if self._is_wide(let.name) else self._cell_value(let)
            weights = (op.where, op.weight) if isinstance(op, (Count, Pool)) else ()
            if let.name in self.measured:
                assert isinstance(op, Pool)
                yield from self._measured(op)
            elif not self._is_wide(let.name) and any(w and self._is_wide(w) for w in weights):
                yield "a weight as large as the input, for a value that is smaller"

    def _wide_value(self, let: Let) -> Iterator[str]:
        if isinstance(let.op, Pool):
            yield from self._pool_of_element(let.op)
        elif isinstance(let.op, Recurrence):
            yield from self._recurrence(let.op)
        elif not isinstance(let.op, WIDE_OPS):
            yield f"a {operation_name(let.op)} as large as the input"
        if set(let.type.axes) != self.data_axes:
            yield from self._larger_value(let)

    def _pool_of_element(self, op: Pool) -> Iterator[str]:
        """A pool that has a result for each element."""
        if any(isinstance(m, Reach) for _, m in op.over):
            yield from self._scan_of_elements(op)
            return
        pooled = {leaf for axis, _ in op.over for leaf in self.index.space.leaves(axis)}
        extra_axes = set(self.index.types[op.value].axes) - self.data_axes
        plain = not (op.where or op.weight or op.ddof or op.about)
        if pooled != extra_axes or not plain or any(m != Ones() for _, m in op.over):
            yield "a pool as large as the input"
        row = ACCUMULATIONS.get(op.statistic)
        if row is None or row.rule == "moments":
            yield f"{op.statistic} of a value larger than the input"

    def _scan_of_elements(self, op: Pool) -> Iterator[str]:
        """A pool that overlaps those of other elements: a worker has all of the axis at hand."""
        ((axis, _),) = op.over
        if axis == self.plan.grouped_axis:
            yield "windows of rows that are in groups"
        if op.statistic not in SCANNED or op.ddof or op.about:
            yield f"{op.statistic} of windows as large as the input"
        if self.plan.extra_axes:
            yield "windows beside a value larger than the input"

    def _recurrence(self, op: Recurrence) -> Iterator[str]:
        """A state that moves along an axis: a worker has all of the axis at hand."""
        if op.axis == self.plan.grouped_axis:
            yield "scans of rows that are in groups"
        if self.plan.extra_axes:
            yield "scans beside a value larger than the input"

    def _larger_value(self, let: Let) -> Iterator[str]:
        """Values that an element has several of: who reads them has to read them at once."""
        results = [ref for _, ref in self.program.outputs] + [u.value for u in self.program.updates]
        if isinstance(let.op, Input) or let.name in results:
            yield "a value larger than the input"
        ops = self.index.ops
        wide_refs = closure(
            [let.name], lambda ref: (r for r in operands(ops[ref]) if self._is_wide(r))
        )
        if any(isinstance(ops[ref], Pool) for ref in wide_refs):
            yield "a value larger than the input that depends on a pool of another one"

    def _cell_value(self, let: Let) -> Iterator[str]:
        op = let.op
        if isinstance(op, MOVING_OPS) and any(map(self._is_wide, operands(op))):
            yield f"{operation_name(op)} of a value as large as the input"
        elif isinstance(op, Input) and self.index.inputs[op.name].sort == "edges":
            yield "an input of sort edges"

    def _measured(self, op: Pool) -> Iterator[str]:
        yield from scan_obstacles(op)
        if any(not isinstance(m, (Ones, ByIndex)) for _, m in op.over):
            yield "a window, a given matrix or blocks of several sizes"
        if op.statistic not in ACCUMULATIONS or op.ddof or op.about:
            yield f"{op.statistic} of a value as large as the input"
        for ref in (op.where, op.weight):
            if ref is not None and not self.measured.isdisjoint(self.index.closure([ref])):
                yield "a weight that depends on the data"

    def _comparison(self, op: Map) -> Iterator[str]:
        """Kernels read integers as floating-point numbers, which hold small ones exactly."""
        ops = {ref: self.index.ops[ref] for ref in op.arguments}
        integers = [ref for ref in ops if self.index.types[ref].kind == "int"]
        inputs = self.index.inputs
        if any(inputs[o.name].sort != "whole" for r in integers if isinstance(o := ops[r], Input)):
            yield "a comparison of an input of indices, which also looks up or pools"
        numbers = [o.value for o in ops.values() if isinstance(o, Number)]
        exact = all(isinstance(n, Const) and abs(n.value) < MAX_EXACT_INT for n in numbers)
        if integers and (len(integers) == len(ops) or not exact):
            yield "a comparison of whole numbers that may be large"

    # ---- axes

    def groups(self) -> Iterator[str]:
        """Grouped rows: kernels sort them by at most one index."""
        groupings = {
            axis.cells_of
            for axis in self.index.space
            if axis.cells_of
            and isinstance(axis.cells_of[1], ByIndex)
            and axis.cells_of[0] in self.plan.data_axes
        }
        if len(groupings) > 1:
            yield "groups of two kinds"

    def lengths(self) -> Iterator[str]:
        """A tensor or a formula must give the length of every axis."""
        known_lengths = {*dimensions(self.program), self.plan.group_axis}
        for axis in self.program.axes:
            if not axis.parts and axis.size is None and axis.name not in known_lengths:
                yield f"the length of {axis.name} is not known"

    def axis_orders(self) -> Iterator[str]:
        """A value that is returned twice must have the same order of dimensions."""
        axes_by_ref: dict[Ref, tuple[str, ...]] = {}
        if any(
            axes_by_ref.setdefault(ref, order) != order
            for ref, order in external_axis_orders(self.plan)
        ):
            yield "a result that is given in two orders of axes"

    # ---- cells

    def cells(self) -> Iterator[str]:
        """A per-cell value may read its own position, another position along one axis, or a pool of
        whole axes."""
        for let in self.program.body:
            if not self._is_wide(let.name) and let.name not in self.measured:
                yield from self._cell(let)

    def _cell(self, let: Let) -> Iterator[str]:
        op, readable_axes = let.op, self.plan.determined_axes(let.type.axes)
        match op:
            case Count(over=over) if any(not self._countable(m, readable_axes) for _, m in over):
                yield "a count over a given matrix or a window"
            case Pool(over=((axis, Reach()),)) if self.plan.grouped_axis in readable_axes:
                yield "windows of rows that are in groups"
            case Pool(over=((axis, Reach()),)) if op.statistic in SCANNED and not op.about:
                readable_axes.add(axis)
            case Pool(over=over) if any(not self._whole(axis, m) for axis, m in over):
                yield from scan_obstacles(op)
                yield "a pool of narrow values by blocks, a given matrix or another index"
            case Pool() if op.statistic not in ACCUMULATIONS or op.ddof or op.about:
                yield f"{op.statistic} of narrow values"
            case Pool(over=over):
                readable_axes |= {leaf for a, _ in over for leaf in self.index.space.leaves(a)}
            case Recurrence(axis=axis):
                yield from self._recurrence(op)
                readable_axes.add(axis)
            case Rename(old=axis) | Lookup(axis=axis, index=int()) | AxisMap(axis=axis):
                readable_axes.add(axis)
            case Piece() | Concat():
                readable_axes |= cut_axes(op, self.index.space)
            case _ if not isinstance(op, PER_CELL_OPS):
                yield operation_name(op)
        if any(not readable_axes.issuperset(self.index.types[r].axes) for r in operands(op)):
            yield "a value smaller than the input with both an axis and its cells"

    def _whole(self, axis: str, matrix: Grouping) -> bool:
        """Whether a pool takes a whole axis, or the rows of each group."""
        if isinstance(matrix, ByIndex):
            return (axis, matrix.index) == (self.plan.grouped_axis, self.plan.group_index)
        return isinstance(matrix, Ones)

    def _countable(self, matrix: Grouping, readable_axes: set[str]) -> bool:
        by_index = isinstance(matrix, ByIndex) and self.plan.group_axis in readable_axes
        return isinstance(matrix, Ones) or by_index

    def links(self) -> Iterator[str]:
        """Kernels loop along the edges of a node and hold the link of one edge at a time."""
        links = {let.name for let in self.program.body if isinstance(let.op, Link)}
        pairs = [set(self.index.types[link].axes) for link in links]
        crossing = {
            let.name for let in self.program.body
            if any(pair <= set(let.type.axes) for pair in pairs)
        }  # fmt: skip
        written = {ref for _, ref in self.program.outputs}
        for let in self.program.body:
            op = let.op
            if let.name in crossing:
                cheap = isinstance(op, Map) and op.function in CHEAP_FUNCTIONS
                if let.name in written or not (cheap or isinstance(op, (Link, Expand, Detach))):
                    yield "a value for each pair of nodes"
            elif not crossing.isdisjoint(operands(op)):
                crossing_sources = self._crossing(
                    [r for r in operands(op) if r in crossing], crossing
                )
                if not isinstance(op, Pool) or not self._along_edges(op, crossing_sources & links):
                    yield "a pool of pairs of nodes that no edge leads between"

    def _crossing(self, roots: list[Ref], crossing: set[Ref]) -> set[Ref]:
        """The values per pair of nodes that `roots` are computed from, `roots` among them."""
        ops = self.index.ops
        return closure(roots, lambda ref: (r for r in operands(ops[ref]) if r in crossing))

    def _along_edges(self, op: Pool, links: set[Ref]) -> bool:
        """Whether a pool follows the edges of a single edge list from one of their ends."""
        if len(links) != 1:
            return False
        (link,) = links
        ends = set(self.index.types[link].axes)
        pooled = {axis for axis, _ in op.over}
        return len(ends & pooled) == 1 and vanishes_with(self.index.lets, op, link)

    def updates(self) -> Iterator[str]:
        """A buffer must have the axes of the value that updates it."""
        axes_by_ref = axis_orders(self.plan)
        for update in self.program.updates:
            axes = axes_by_ref.get(update.value, self.index.types[update.value].axes)
            if axes != self.index.axes_of(update.buffer):
                yield "a buffer with other axes than its value"
