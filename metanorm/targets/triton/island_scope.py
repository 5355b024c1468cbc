"""The scope of a kernel whose programs have whole islands: narrow values stay in registers."""

from __future__ import annotations

from metanorm.ir.nodes import POINTWISE, AxisMap, Pool, Ref
from metanorm.targets.python.pyir import Expr
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.scope import NotInTile, Scope


class IslandScope(Scope):
    """The values of a kernel whose programs have whole islands.

    Statistics are values once they are complete. Reading one earlier raises `NotInTile`.
    """

    def __init__(self, context: KernelContext, arguments: Arguments) -> None:
        super().__init__(context, arguments)
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
        if self.ctx.reads_along_axis(ref) and self.ctx.depends_on_statistics(ref):
            raise NotInTile("other positions of what depends on statistics")
        return super().expression(ref)

    def is_computed_in_place(self, ref: Ref) -> bool:
        """Always true: this kernel computes all of its values itself."""
        return True
