"""The scope of a kernel whose programs have whole islands: narrow values stay in registers."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import POINTWISE, AxisMap, Count, Op, Pool, Ref
from metanorm.nest.nest import Block, reach_of
from metanorm.targets.python.pyir import Expr, Literal, Name
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.scope import COLUMN, ROW, NotInTile, Scope
from metanorm.targets.triton.shapes import TileShape
from metanorm.targets.triton.terms import cast, infix, times


class IslandScope(Scope):
    """The values of a kernel whose programs have whole islands.

    Statistics are values once they are complete. Reading one earlier, or after the loop that had
    it, raises `NotInTile`.
    """

    def __init__(
        self,
        context: KernelContext,
        arguments: Arguments,
        shape: TileShape,
        sweeps: Sequence[Block],
    ) -> None:
        super().__init__(context, arguments)
        self.grouped, self.has_sweep_loops = shape.grouped, shape.has_sweep_loops
        self.read_again: frozenset[str] = frozenset()  # tensors that a later sweep reads too
        self.between_sweeps = {let.name for block in context.nest.between for let in block.lets}
        self.between_sweeps |= context.measured.keys()

    def expression(self, ref: Ref) -> Expr:
        """The expression of a value. A value between sweeps is never read from memory."""
        let = self.ctx.lets[ref]
        op = let.op
        if ref in self.between_sweeps:
            if isinstance(op, Pool):
                raise NotInTile("a statistic where it is not known")
            if isinstance(op, AxisMap):
                raise NotInTile("a map along an axis")
            if not isinstance(op, POINTWISE) and not self.ctx.is_inline(ref):
                raise NotInTile("a value at another place")
        if reach_of(op) is not None and self.ctx.depends_on_statistics(ref):
            raise NotInTile("a pool that overlaps, of what depends on statistics")
        if self.grouped and self.ctx.is_group_size(let):
            return self._rows_of_group(op)
        return super().expression(ref)

    def is_computed_in_place(self, ref: Ref) -> bool:
        """Always true: this kernel computes all of its values itself."""
        return True

    def load_wide(self, name: str, pointer: Expr, offset: Expr) -> Expr:
        """Load a tile of a wide tensor. A cache hint says whether a later sweep reads it again."""
        if not self.has_sweep_loops:
            return super().load_wide(name, pointer, offset)
        policy = Literal("evict_last" if name in self.read_again else "evict_first")
        return self.load(pointer, offset, ROW | COLUMN, eviction_policy=policy)

    def _rows_of_group(self, op: Op) -> Expr:
        """The number of rows of a group, times the lengths of the other counted axes."""
        assert isinstance(op, Count)
        if op.where or op.weight:
            raise NotInTile("a count of what a mask leaves")
        rows: Expr = infix("-", Name("stop"), Name("start"))
        counted_axes = self.ctx.leaves(axis for axis, matrix in op.over if isinstance(matrix, Ones))
        return cast(times(rows, self.ctx.size(self.arguments, counted_axes)), "REAL")
