"""Column sums of narrow values, added row by row, so that memory is read contiguously."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Let, Pool
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Expr, ExprStmt, Infix, Prefix, Stmt
from metanorm.targets.native.values import NarrowValues

ZERO = cir.Number(0)


def is_column_sum(values: NarrowValues, let: Let, pooled: Sequence[str]) -> bool:
    """Whether a pool is a plain sum over rows, or blocks of rows, that keeps the last axis."""
    op = let.op
    if not isinstance(op, Pool) or op.statistic != "sum" or op.where or op.weight:
        return False
    if any(isinstance(matrix, ByIndex) for _, matrix in op.over):
        return False
    order = values.ctx.axis_order(op.value) if values.has_array(op.value) else ()
    last_axis = order[-1:]
    if not set(last_axis).isdisjoint(pooled) or not set(pooled) <= set(order):
        return False
    return (
        values.ctx.axis_order(let.name)[-1:] == last_axis
        and len(_contiguous_runs(order, pooled)) <= 2
    )


def column_sums(
    values: NarrowValues, let: Let, pooled: Sequence[str], bounds: tuple[Expr, Expr]
) -> Stmt:
    """The call that sums all columns within `bounds`. Loops around it set all other positions."""
    f, op, (low, high) = values.ctx, let.op, bounds
    assert isinstance(op, Pool)
    order = f.axis_order(op.value)
    positions = {
        **values.loop_positions(let.type.axes),
        **dict.fromkeys(pooled, ZERO),
        order[-1]: low,
    }
    arguments: list[Expr] = [Prefix("&", values.value(op.value, positions))]
    pieces = _contiguous_runs(order, pooled)
    for piece in [()] * (2 - len(pieces)) + pieces:
        inner_axes = order[order.index(piece[-1]) + 1 :] if piece else ()
        arguments += [f.volume(piece), f.volume(inner_axes) if piece else ZERO]
    arguments.append(high if low == ZERO else Infix("-", high, low))
    return ExprStmt(
        Apply("sums_across", (*arguments, Prefix("&", values.value(let.name, positions))))
    )


def _contiguous_runs(order: Sequence[str], pooled: Sequence[str]) -> list[tuple[str, ...]]:
    """The pooled axes in runs of neighbouring dimensions."""
    pieces: list[tuple[str, ...]] = []
    before = ""
    for axis in order:
        if axis in pooled and before in pooled:
            pieces[-1] += (axis,)
        elif axis in pooled:
            pieces.append((axis,))
        before = axis
    return pieces
