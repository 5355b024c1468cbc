"""Sums down the columns of narrow values: row by row, so that memory is read as it lies."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Let, Pool
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Do, Expr, Infix, Prefix, Stmt
from metanorm.targets.native.values import Values

ZERO = cir.Number(0)


def goes_down(values: Values, let: Let, pooled: Sequence[str]) -> bool:
    """Whether a pool is a plain sum of what does not lie together in memory: of rows, or of blocks
    of rows."""
    op = let.op
    if not isinstance(op, Pool) or op.statistic != "sum" or op.where or op.weight:
        return False
    if any(isinstance(matrix, ByIndex) for _, matrix in op.over):
        return False
    order = values.f.order(op.value) if values.has_array(op.value) else ()
    along = order[-1:]
    if not set(along).isdisjoint(pooled) or not set(pooled) <= set(order):
        return False
    return values.f.order(let.name)[-1:] == along and len(_pieces(order, pooled)) <= 2


def columns(values: Values, let: Let, pooled: Sequence[str], bounds: tuple[Expr, Expr]) -> Stmt:
    """The sums along the last axis, between `bounds`; the other axes have their places already."""
    f, op, (low, high) = values.f, let.op, bounds
    assert isinstance(op, Pool)
    order = f.order(op.value)
    here = {**values.here(let.type.axes), **dict.fromkeys(pooled, ZERO), order[-1]: low}
    line: list[Expr] = [Prefix("&", values.value(op.value, here))]
    pieces = _pieces(order, pooled)
    for piece in [()] * (2 - len(pieces)) + pieces:
        behind = order[order.index(piece[-1]) + 1 :] if piece else ()
        line += [f.volume(piece), f.volume(behind) if piece else ZERO]
    line.append(high if low == ZERO else Infix("-", high, low))
    return Do(Apply("sums_across", (*line, Prefix("&", values.value(let.name, here)))))


def _pieces(order: Sequence[str], pooled: Sequence[str]) -> list[tuple[str, ...]]:
    """The pooled axes as they lie: those that follow each other together."""
    pieces: list[tuple[str, ...]] = []
    before = ""
    for axis in order:
        if axis in pooled and before in pooled:
            pieces[-1] += (axis,)
        elif axis in pooled:
            pieces.append((axis,))
        before = axis
    return pieces
