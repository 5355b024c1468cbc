"""Narrow values between the sweeps of an island: computed where they are read."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Along, Expand, Let, Map, Pool, Ref, Stop
from metanorm.plan.sweeps import Sweep
from metanorm.targets.python.pyir import Expr, Literal
from metanorm.targets.triton.frame import Arguments, Frame
from metanorm.targets.triton.scope import Scope
from metanorm.targets.triton.shapes import Shape
from metanorm.targets.triton.statistics import NotInTile
from metanorm.targets.triton.terms import ZERO, call, cast


class IslandScope(Scope):
    """Values of a tile that has whole islands. Statistics of narrow values are taken in it."""

    def __init__(
        self, frame: Frame, arguments: Arguments, shape: Shape, sweeps: Sequence[Sweep]
    ) -> None:
        super().__init__(frame, arguments)
        self.shape = shape
        self.between = {let.name for sweep in sweeps for let in sweep.narrow}

    def computed(self, ref: Ref) -> Expr:
        """The expression of a value; what lies between sweeps is not read from memory."""
        if ref in self.between:
            let = self.frame.lets[ref]
            if isinstance(let.op, Pool):
                return self._pooled(let)
            if isinstance(let.op, Along):
                raise NotInTile("a map along an axis")
            if not isinstance(let.op, (Map, Stop, Expand)) and not self.frame.inline(ref):
                raise NotInTile("a value at another place")
        return super().computed(ref)

    def simple(self, ref: Ref) -> bool:
        """Every value is computed where it is read."""
        return True

    def _pooled(self, let: Let) -> Expr:
        """A statistic of narrow values that are in the tile."""
        op = let.op
        if not isinstance(op, Pool) or op.where or op.weight or op.ddof or op.about:
            raise NotInTile("a narrow value that takes more than a sum")
        rows, columns = self._sides(op)
        own = self.varies(self.frame.lets[op.value].type.axes)
        value, mask = self.value(op.value), self.mask(own)
        flags = Literal(rows), Literal(columns)
        if op.statistic == "sum":
            counted = value if mask is None else call("tl.where", mask, value, ZERO)
            return call("arithmetic.added", counted, *flags)
        if op.statistic not in ("mean", "var") or mask is None:
            raise NotInTile(f"{op.statistic} of narrow values")
        return call(f"arithmetic.{op.statistic}_of", value, cast(mask, "REAL"), *flags)

    def _sides(self, op: Pool) -> tuple[bool, bool]:
        """Whether a statistic is taken along rows, and along columns, of which the tile has all."""
        axes = set(self.frame.leaves(axis for axis, _ in op.over))
        rows, columns = set(self.shape.row_axes), set(self.shape.columns)
        sides = (bool(axes & rows), bool(axes & columns))
        held = all(
            way == "whole" for way, side in zip((self.shape.down, self.shape.across), sides) if side
        )
        if axes != (rows if sides[0] else set()) | (columns if sides[1] else set()) or not held:
            raise NotInTile("narrow values that do not lie in a tile")
        return sides
