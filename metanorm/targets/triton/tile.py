"""Print the kernels that read the data: for one sweep, or for all sweeps of whole islands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Let, Pool, Ref
from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Block
from metanorm.targets.python.pyir import Comment, If
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.island_scope import IslandScope
from metanorm.targets.triton.kernel import kernel_function, sweep_summary
from metanorm.targets.triton.larger_values import pool_of_element, pools_larger_value
from metanorm.targets.triton.reduction_results import ReductionResults
from metanorm.targets.triton.scope import COLUMN, ROW, Scope
from metanorm.targets.triton.shapes import TileShape
from metanorm.targets.triton.statistics import StatisticsPrinter
from metanorm.targets.triton.steps import Keys, TileStep
from metanorm.targets.triton.terms import is_not_none
from metanorm.targets.triton.tile_indices import TileIndices


class TilePrinter:
    """Prints one kernel.

    `read_later` are the narrow values that other kernels read. With `island`, programs have whole
    islands. Raises `NotInTile` if the shape does not allow this schedule.
    """

    def __init__(
        self,
        context: KernelContext,
        shape: TileShape,
        sweeps: Sequence[Block],
        read_later: Collection[Ref],
        island: bool,
    ) -> None:
        self.ctx, self.shape, self.sweeps = context, shape, sweeps
        self.arguments = arguments = Arguments()
        self.scope = IslandScope(context, arguments) if island else Scope(context, arguments)
        self.indices = TileIndices(self.scope, shape)
        self.results = ReductionResults(self.scope, self.indices, read_later, island)
        self.statistics = StatisticsPrinter(self.scope, self.indices, self.results)
        for sweep in sweeps:
            if len(sweeps) > 1:
                self.scope.body.append(Comment(sweep_summary(context, sweep)))
            self._sweep(sweep)
        for ref in self.ctx.lets:
            if ref in read_later and ref not in self.ctx.measured:
                self.results.store_value(ref)
        self.keeps = self._tiles_in_registers()
        if self.indices.loop is not None:
            self.indices.leave_loop()
            self.statistics.finish_loop()

    def step(self, name: str, doc: str) -> TileStep:
        """The kernel, with the keys of its arguments and the data that it covers."""
        shape, outcomes = self.shape, self.results
        meta = [*(["ROWS"] if shape.rows else []), "BLOCK", *(["LANES"] if shape.cell else [])]
        cell = (
            f"size {'*'.join(shape.cell)}"  # compiled in, since coalescing of loads depends on it
        )
        writes = tuple(output for sweep in self.sweeps for output, _ in sweep.writes)
        return TileStep(
            kernel_function(name, doc, self.arguments, meta, self.scope.body, {cell}),
            (*self.arguments.keys, "REAL", "INDEX", *meta),
            _sizes(shape.outer),
            _sizes(shape.rows),
            _sizes((shape.columns,)),
            _sizes((shape.cell,)),
            shape.down,
            shape.across,
            shape.grouped,
            shape.gathers,
            outcomes.adds_up,
            tuple(outcomes.parts),
            tuple(outcomes.arrays),
            self.keeps,
            writes,
        )

    def _sweep(self, sweep: Block) -> None:
        """Print one sweep over the data of a program, and the narrow statistics after it."""
        for let in sweep.lets:
            if isinstance(let.op, Pool) and pools_larger_value(self.ctx, let.name):
                self.scope.bind(let.name, pool_of_element(self.scope, let.name, let.op))
            self.scope.value(let.name)
        for number in sweep.measures:
            self.statistics.take_reduction(self.ctx.reductions[number])
        for output, ref in sweep.writes:
            self._store_output(output, ref)
        for let in self._narrow(sweep) if isinstance(self.scope, IslandScope) else ():
            if isinstance(let.op, Pool):
                self.statistics.take_pool(let)

    def _narrow(self, sweep: Block) -> Sequence[Let]:
        """The narrow values between a sweep and the next one."""
        nest = self.ctx.nest
        return nest.between[nest.sweeps.index(sweep)].lets

    def _tiles_in_registers(self) -> int:
        """How many values as large as a tile are in registers at once.

        These are the tensors that sweeps share, weights of elements, offsets of several rows and
        accumulators over islands; if a tile may be one row, also values that are the same for all
        rows.
        """
        tensors = {name for sweep in self.sweeps for name in sweep.reads}
        weighed = any(
            self.ctx.reductions[n].is_weighted for sweep in self.sweeps for n in sweep.measures
        )
        count = (
            len(tensors)
            + weighed
            + (self.shape.down == "whole")
            + self.statistics.tiles_in_registers
        )
        if self.shape.has_row_chunks and self.shape.across == "whole":
            before = [r for r in self.scope.local if not self.scope.depth[r]]
            count += sum(self.scope.sides_of(self.ctx.lets[r].type.axes) == COLUMN for r in before)
        return count

    def _store_output(self, output: str, ref: Ref) -> None:
        pointer = self.arguments(f"tensor {output}", output.replace(".", "_"))
        value = self.scope.value(ref)
        store = self.scope.store(pointer, self.scope.wide_offset(output), ROW | COLUMN, value)
        self.scope.body.append(
            If(is_not_none(pointer), (store,)) if output.startswith("to.d.") else store
        )


def _sizes(groups: Sequence[AxisGroup]) -> Keys:
    return tuple(f"size {leaf}" for group in groups for leaf in group)
