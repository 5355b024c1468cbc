"""Print runs of positions of an axis, and how they are joined again."""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Concat, Let, Piece
from metanorm.ir.scalar import Apply, Const, Scalar, SizeOf
from metanorm.targets.python.pyir import Expr, Name, Slice, Stmt, Subscript, Tuple
from metanorm.targets.torch.broadcaster import Broadcaster
from metanorm.targets.torch.context import Context
from metanorm.targets.torch.layout import Dim, Dims, Value, call, method


class PiecePrinter:
    """Prints the runs of axes of one function."""

    def __init__(self, context: Context, broadcaster: Broadcaster) -> None:
        self.ctx = context
        self.broadcaster = broadcaster

    def piece(self, let: Let, op: Piece, out: list[Stmt]) -> None:
        """`x[:, :half]`."""
        whole, start = self.ctx.space.cut(op.piece)
        value = self.broadcaster.with_all_dims(op.value)
        index = [dim.axis for dim in value.dims].index(whole)
        dims = tuple(replace(d, axis=op.piece) if d.axis == whole else d for d in value.dims)
        expr = self._cut(value, index, start, op.piece)
        self.ctx.keep(let, Value(expr, dims), out, "part")

    def concat(self, let: Let, op: Concat, out: list[Stmt]) -> None:
        """`torch.cat((a, b), dim=1)`."""
        axes = let.type.axes
        parts: list[Expr] = []
        for ref, piece in zip(op.values, op.pieces):
            value = self.ctx.as_number(ref, self.ctx.not_none(ref))
            on_piece = tuple(piece if axis == op.axis else axis for axis in axes)
            parts.append(self.ctx.in_variable(self.broadcaster.expanded(value, on_piece), out).expr)
        dims = tuple(Dim(axis) for axis in axes)
        position = self.ctx.layouts.position(dims, axes.index(op.axis))
        self.ctx.bind(let, call("torch.cat", Tuple(tuple(parts)), dim=position), dims, out, "whole")

    def _cut(self, value: Value, index: int, start: Scalar, piece: str) -> Expr:
        """The positions from `start` on, as many as the piece is long."""
        length = self.ctx.space[piece].size
        assert length is not None
        begin = None if start == Const(0.0) else self._number(start, piece)
        # The last run of a cut ends with the axis; the one without a length may be any of them.
        whole = SizeOf(value.dims[index].axis)
        is_last = length == _difference(whole, start) or start == _difference(whole, length)
        end = None if is_last else self._number(_sum(start, length), piece)
        brackets = self._brackets(value.dims, index, Slice(begin, end))
        if brackets is not None:
            return Subscript(value.expr, brackets)
        position = self.ctx.layouts.position(value.dims, index)
        first = self.ctx.lengths.number(start)
        return method(value.expr, "narrow", position, first, self.ctx.lengths.of(piece))

    def _brackets(self, dims: Dims, index: int, cut: Slice) -> tuple[Expr, ...] | None:
        """The cut in brackets; `None` between two groups of axes, whose ranks only a call knows."""
        variadic = self.ctx.layouts.variadic
        if not any(variadic(dim) for dim in dims[:index]):
            return (*(Slice() for _ in dims[:index]), cut)
        if not any(variadic(dim) for dim in dims[index + 1 :]):
            return (Name("..."), cut, *(Slice() for _ in dims[index + 1 :]))
        return None

    def _number(self, scalar: Scalar, piece: str) -> Expr:
        """A bound, in a variable if it is computed."""
        expr = self.ctx.lengths.number(scalar)
        return (
            self.ctx.set_up(f"{piece.lower()}_bound", expr) if isinstance(scalar, Apply) else expr
        )


def _difference(first: Scalar, second: Scalar) -> Scalar:
    return Apply("sub", (first, second))


def _sum(first: Scalar, second: Scalar) -> Scalar:
    return second if first == Const(0.0) else Apply("add", (first, second))
