"""Print scans: states that move along an axis."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from metanorm.ir.nodes import Let, Recurrence, Ref
from metanorm.targets.python.pyir import Literal, Name, Stmt
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Value, call, method


class ScanPrinter:
    """Prints the scans of one function."""

    def __init__(
        self,
        context: Context,
        broadcaster: Broadcaster,
        emit_needed: Callable[[Iterable[Ref], list[Stmt]], None],
    ) -> None:
        self.ctx = context
        self.broadcaster = broadcaster
        self.emit_needed = emit_needed

    def scan(self, let: Let, op: Recurrence, out: list[Stmt]) -> None:
        """`runtime.scan(x, decay, start, dim=1)`, of operands that broadcast."""
        axes = let.type.axes
        if op.before and self._from_states(let, op, out):
            return
        operands = [self._operand(ref) for ref in (op.value, op.decay, op.start)]
        is_whole = any(Dim(op.axis) in value.dims for value in operands[:1])
        if not is_whole or any(value.may_lack_dims for value in operands):
            operands[0] = self._expanded(operands[0], axes)
        exprs, dims = self.broadcaster.broadcast(operands, axes)
        index = [dim.axis for dim in dims].index(op.axis)
        flags = {name: Literal(True) for name in ("reverse", "before") if getattr(op, name)}
        position = self.ctx.layouts.position(dims, index)
        self.ctx.bind(let, call("runtime.scan", *exprs, dim=position, **flags), dims, out, "state")

    def _from_states(self, let: Let, op: Recurrence, out: list[Stmt]) -> bool:
        """`runtime.state_before(m, start, dim=1)`, if the states after each position are known."""
        after, placement = replace(op, before=False), self.ctx.mode_placement
        known = (r for r, other in self.ctx.lets.items() if other.op == after)
        ref = next((r for r in known if placement[r] == placement[let.name]), None)
        if ref is None:
            return False
        self.emit_needed([ref], out)
        operands = [self.ctx.values[ref], self._operand(op.start)]
        exprs, dims = self.broadcaster.broadcast(operands, let.type.axes)
        index = [dim.axis for dim in dims].index(op.axis)
        reverse = Literal(True) if op.reverse else None
        position = self.ctx.layouts.position(dims, index)
        before = call("runtime.state_before", *exprs, dim=position, reverse=reverse)
        self.ctx.keep(let, Value(before, dims), out, "before")
        return True

    def _operand(self, ref: Ref) -> Value:
        return self.ctx.as_number(ref, self.ctx.not_none(ref))

    def _expanded(self, value: Value, axes: tuple[str, ...]) -> Value:
        """The value with all of these axes."""
        dims = tuple(Dim(axis) for axis in axes)
        if not value.number:
            return self.broadcaster.expanded(value, axes)
        sizes = self.ctx.lengths.shape(dims)
        return Value(method(Name(self.ctx.first), "new_full", sizes, value.expr), dims)
