"""Print narrow values as C: loops over their axes, each of which computes all values on these axes.

A value that another loop, a sweep or an output reads gets an array. Any other value is a local
variable of its loop.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from types import MappingProxyType

from metanorm.ir.nodes import AxisMap, Concat, Let, Lookup, Piece, Pool, Recurrence, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.nest.statements import reach_of
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cell_blocks import CellBlock
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Conditional,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Stmt,
)
from metanorm.targets.native.clusters import Clusters
from metanorm.targets.native.column_sums import column_sums, is_column_sum
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.joining import EXACT_FUNCTIONS, RESULT_FUNCTIONS
from metanorm.targets.native.members import WORKER, accumulator, end_of, first_of
from metanorm.targets.native.named_indexes import with_named_indexes
from metanorm.targets.native.nesting import inlined_operators
from metanorm.targets.native.pool import PoolPrinter
from metanorm.targets.native.recurrence import recurrence
from metanorm.targets.native.scan import ScanPrinter, lines_of_cells
from metanorm.targets.native.softmax import softmax
from metanorm.targets.native.sparsestmax import sparsestmax
from metanorm.targets.native.strided_runs import LINE_FUNCTIONS
from metanorm.targets.native.values import AxisPositions, NarrowValues


class NarrowPrinter:
    """Prints the narrow values of one kernel, cluster by cluster."""

    def __init__(
        self, context: KernelContext, blocks: Sequence[CellBlock], array_refs: Collection[Ref]
    ) -> None:
        self.ctx = context
        self.lets = context.program.index.lets
        self.measured = {
            ref: (finish.reduction, context.nest.reductions[finish.reduction], finish.statistic)
            for ref, finish in context.nest.finishes.items()
        }
        self.values = NarrowValues(context, self.measured, array_refs)
        self.clusters = Clusters(context, self.values, blocks, array_refs)
        self.stored = self.clusters.stored

    # ---- statements

    def statements(self, block: CellBlock) -> list[Stmt]:
        """The statements that compute a block of values."""
        statements: list[Stmt] = []
        for cluster in self.clusters.of(block):
            statements += self._cluster(cluster, block)
        return statements

    def loops(
        self, refs: Sequence[Ref], axes: Sequence[str], body: list[Stmt], block: CellBlock,
        before: Sequence[Stmt] = (),
    ) -> list[Stmt]:  # fmt: skip
        """Loops over `axes` around a body. Values of islands loop over the range of their worker.

        The statements `before` are invariant in the innermost loop, and stand directly above it.
        """
        of_rows = self.ctx.nest.grouped_axis in axes
        by_group = of_rows and block.per_island and self.ctx.group_axis in self.ctx.nest.islands
        if of_rows and not by_group and self.values.reads_groups(refs):
            body = [self.ctx.group_declaration(), *body]
        for number, axis in enumerate(reversed(axes)):
            if by_group and axis == self.ctx.nest.grouped_axis:
                body = self._over_groups(body, block)
            else:
                low, high = self._bounds(axis, block)
                simd = number == 0 and all(_is_independent(s) for s in body)
                body = [For(self.ctx.variables[axis], low, high, tuple(body), simd=simd)]
            if number == 0:
                body = [*before, *body]
        return body if len(body) == 1 else [cir.Block(tuple(body))]

    def _bounds(self, axis: str, block: CellBlock) -> tuple[Expr, Expr]:
        """The bounds of a loop over an axis: the worker's islands, or the whole axis."""
        size, constant = self.ctx.size(axis), Name(self.ctx.axis((axis,)))
        islands = set(self.ctx.nest.islands)
        if block.per_island and axis in self.ctx.sometimes_ranged_axes:
            r = Name("r")
            return Apply("low", (r, constant)), Apply("high", (r, constant, size))
        if block.per_island and (axis,) in self.ctx.loops and axis in islands:
            return first_of(constant), end_of(constant)
        return cir.Number(0), size

    def _over_groups(self, body: list[Stmt], block: CellBlock) -> list[Stmt]:
        """A loop over groups around a loop over the rows of each group."""
        group_axis, grouped_axis = self.ctx.group_axis, self.ctx.nest.grouped_axis
        assert group_axis is not None and grouped_axis is not None
        low, high = self._bounds(grouped_axis, block)
        first, last = self.ctx.group_row_range(Name(self.ctx.variables[group_axis]))
        if low != cir.Number(0):
            first, last = Apply("max", (low, first)), Apply("min", (high, last))
        rows = For("place", first, last, (self.ctx.row_declaration(), *body))
        return [For(self.ctx.variables[group_axis], *self._bounds(group_axis, block), (rows,))]

    def _cluster(self, cluster: Sequence[Ref], block: CellBlock) -> list[Stmt]:
        first = self.lets[cluster[0]]
        if not self.clusters.is_pointwise(first.name):
            return self._non_pointwise_statements(cluster, block)
        at = self.values.loop_positions(first.type.axes)
        if not first.type.axes:
            return self._scalar_statements(cluster, at)
        before, cells = self._first_cells(cluster, at)
        body = self._pointwise_body(cluster, at, cells)
        return self.loops(cluster, first.type.axes, body, block, before)

    def _pointwise_body(
        self,
        cluster: Sequence[Ref],
        at: AxisPositions,
        cells: Mapping[Ref, Expr] = MappingProxyType({}),
    ) -> list[Stmt]:
        """The statements that compute a cluster at one position, and store what others read."""
        body: list[Stmt] = []
        local_values: dict[Ref, Expr] = {}
        lets = [self.lets[ref] for ref in cluster]
        inlined = inlined_operators(
            [let for let in lets if let.name not in self.measured], self.stored
        )
        read = self._read_in(lets)
        for ref in cluster:
            value = cells.get(ref) or self._pointwise_value(ref, at, local_values)
            if ref in inlined:
                local_values[ref] = value
                continue
            stored = self.values.value(ref, at) if ref in self.stored else None
            if stored is not None and ref not in read:
                body.append(Assign(stored, "=", value))
                continue
            body.append(Declare("const real", self.ctx.name(ref), value))
            local_values[ref] = Name(self.ctx.name(ref))
            if stored is not None:
                body.append(Assign(stored, "=", local_values[ref]))
        return with_named_indexes(self.ctx, body)

    def _read_in(self, lets: Iterable[Let]) -> set[Ref]:
        """The values that these bindings read, directly or through inlined values."""

        def read(refs: Iterable[Ref]) -> Iterator[Ref]:
            for ref in refs:
                yield ref
                if ref in self.values.inlined:
                    yield from read(operands(self.lets[ref].op))

        return set(
            read(r for let in lets if let.name not in self.measured for r in operands(let.op))
        )

    def _scalar_statements(self, cluster: Sequence[Ref], at: AxisPositions) -> list[Stmt]:
        """The statements for values without axes, which need no loop."""
        statements: list[Stmt] = []
        local_values: dict[Ref, Expr] = {}
        for ref in cluster:
            value = self._pointwise_value(ref, at, local_values)
            if ref in self.stored:
                statements.append(Assign(self.values.value(ref, at), "=", value))
            else:
                statements.append(Declare("const real", self.ctx.name(ref), value))
                local_values[ref] = Name(self.ctx.name(ref))
        return statements

    def _pointwise_value(self, ref: Ref, at: AxisPositions, local: Mapping[Ref, Expr]) -> Expr:
        if ref in self.measured:
            return self._measured(ref, at)
        if self.values.is_known_from_sizes(ref):
            return self.values.sizes_expression(ref, at)
        return self.values.pointwise_expression(self.lets[ref].op, at, local)

    def _measured(self, ref: Ref, at: AxisPositions, cell: Expr | None = None) -> Expr:
        """A statistic, read from the accumulator of its reduction."""
        number, reduction, statistic = self.measured[ref]
        alone = statistic == reduction.kind
        function = RESULT_FUNCTIONS[reduction.row.finish] if alone else f"{statistic}_of"
        return Apply(
            function,
            (cir.address(accumulator(number)), cell or self._cell_of(number, reduction, at)),
        )

    def _cell_of(self, number: int, reduction: Reduction, at: AxisPositions) -> Expr:
        """The call that gives the cell of a reduction in the current layout."""
        positions = (at[axis] for axis in reduction.cells)
        return Apply(f"CELL_{number}", (cir.address(accumulator(number)), *positions))

    def _first_cells(
        self, cluster: Sequence[Ref], at: AxisPositions
    ) -> tuple[list[Stmt], dict[Ref, Expr]]:
        """Hoist the first cell of each reduction and the step between cells out of the inner loop.

        Returns these declarations, and the statistics as they are read inside the loop. Without
        them, the call for each cell would keep the compiler from vectorizing the loop.
        """
        inner = self.lets[cluster[0]].type.axes[-1]
        declarations: dict[str, Stmt] = {}
        statistics: dict[Ref, Expr] = {}
        for ref in cluster:
            if ref in self.measured:
                number, reduction, _ = self.measured[ref]
                first_cell, step = f"cells_{number}", f"step_{number}"
                first, second = (
                    self._cell_of(number, reduction, {**at, inner: cir.Number(position)})
                    for position in (0, 1)
                )
                declarations[first_cell] = Declare("const int64_t", first_cell, first)
                declarations[step] = Declare(
                    "const int64_t", step, Infix("-", second, Name(first_cell))
                )
                cell = Infix("+", Name(first_cell), Infix("*", at[inner], Name(step)))
                statistics[ref] = self._measured(ref, at, cell)
        return list(declarations.values()), statistics

    def exact(self, ref: Ref, target: Expr, block: CellBlock) -> list[Stmt]:
        """The loops that write a statistic of the data to an array in double."""
        axes = self.lets[ref].type.axes
        at = self.values.loop_positions(axes)
        measured = self._measured(ref, at)
        assert isinstance(measured, Apply)
        value = Apply(EXACT_FUNCTIONS[measured.function], measured.arguments)
        place = Element(target, self.ctx.index(self.ctx.axis_order(ref), at))
        return self.loops([ref], axes, [Assign(place, "=", value)], block)

    def cell(self, accumulator: Expr, reduction: Reduction, at: AxisPositions) -> Expr:
        """The index of a cell in an accumulator."""
        is_along_vector = set(self.ctx.vector) <= set(reduction.cells)
        point = self._cell_point(reduction, at)
        return Apply("cell_along" if is_along_vector else "cell", (accumulator, point))

    def _cell_point(self, reduction: Reduction, at: AxisPositions) -> Expr:
        """The position of a cell along all loops; zero along axes that it does not have."""
        positions: list[Expr] = []
        for group in self.ctx.loops:
            merged = f"*{group[0]}"
            if not set(group) <= set(reduction.cells):
                positions.append(cir.Number(0))
            elif len(group) > 1:
                positions.append(at[merged] if merged in at else self.ctx.index(group, at))
            else:
                positions.append(at[group[0]])
        return Apply("AT", tuple(positions))

    # ---- operations that read several positions

    def _non_pointwise_statements(self, cluster: Sequence[Ref], block: CellBlock) -> list[Stmt]:
        let = self.lets[cluster[0]]
        op = let.op
        axes = let.type.axes
        match op:
            case Rename() | Lookup() | Piece() | Concat():
                at = self.values.loop_positions(axes)
                copy = Assign(self.values.value(let.name, at), "=", self._read_elsewhere(op, at))
                return self.loops(cluster, axes, [copy], block)
            case AxisMap("softmax", value, axis):
                weights: list[Stmt] = softmax(self.values, let, value, axis)
                other_axes = [a for a in axes if a != axis]
                if not other_axes:
                    return [cir.Block(tuple(weights))]
                return self.loops(cluster, other_axes, weights, block)
            case AxisMap("sparsestmax", axis=axis):
                outer_axes = [a for a in axes if a != axis]
                return self.loops(cluster, outer_axes, sparsestmax(self.values, let, op), block)
            case Recurrence():
                bounds = partial(self._bounds, block=block)
                outer_axes, lines = lines_of_cells(self.values, let, bounds)
                worker: Expr = WORKER if block.per_island else cir.Number(0)
                steps = recurrence(self.values, let, lines, worker)
                return self.loops(cluster, outer_axes, steps, block)
            case Pool() if reach_of(op) is not None:
                bounds = partial(self._bounds, block=block)
                outer_axes, lines = lines_of_cells(self.values, let, bounds)
                worker = WORKER if block.per_island else cir.Number(0)
                scan = ScanPrinter(self.values, cluster, lines)
                return self.loops(cluster, outer_axes, scan.statements(worker), block)
            case Pool():
                pool = PoolPrinter(self.values, cluster)
                if len(cluster) == 1 and is_column_sum(self.values, let, pool.axes):
                    *outer_axes, column = self.ctx.axis_order(let.name)
                    down = column_sums(self.values, let, pool.axes, self._bounds(column, block))
                    if not outer_axes:
                        return [down]
                    return self.loops(cluster, outer_axes, [down], block)
                if not axes:
                    return [cir.Block(tuple(pool.statements()))]
                (outer,) = self.loops(cluster, axes, pool.statements(), block)
                if pool.work is not None and isinstance(outer, For):  # a product of matrices
                    return [replace(outer, work=pool.work, nest=len(axes))]
                return [outer]
            case _:
                raise AssertionError(op)

    def _read_elsewhere(self, op: Rename | Lookup | Piece | Concat, at: AxisPositions) -> Expr:
        """The value that an operation reads at another position than that of its result."""
        match op:
            case Rename(value, old, new):
                return self.values.value(value, {**at, old: at[new]})
            case Lookup(table, axis, int() as row):
                return self.values.value(table, {**at, axis: cir.Number(row)})
            case Piece(value, piece):
                place = Infix("+", at[piece], self.ctx.run_start(piece))
                return self.values.value(value, {**at, self.ctx.whole_axis(piece): place})
            case Concat():
                return self._of_runs(op, at)
            case _:
                raise AssertionError(op)

    def _of_runs(self, op: Concat, at: AxisPositions) -> Expr:
        """The value of the run that a position is in; zero in none of them."""
        chosen: Expr = cir.Number(0)
        for ref, piece in reversed([*zip(op.values, op.pieces)]):
            place = Infix("-", at[op.axis], self.ctx.run_start(piece))
            value = self.values.value(ref, {**at, piece: place})
            chosen = Conditional(self.ctx.is_inside(piece, at[op.axis]), value, chosen)
        return chosen


def _is_independent(s: Stmt) -> bool:
    """Whether iterations of a loop around the statement are independent, so that it vectorizes."""
    if isinstance(s, Assign):
        has_loop = isinstance(s.value, Apply) and s.value.function in LINE_FUNCTIONS.values()
        return s.operator == "=" and not has_loop
    return isinstance(s, Declare)
