"""Sums down the columns of narrow values: row by row, so that memory is read as it lies."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Let, Pool
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Declare,
    Do,
    Element,
    For,
    Infix,
    Name,
    Prefix,
    Set,
    Stmt,
)
from metanorm.targets.native.values import Values

ZERO = cir.Number(0)
BEGIN, COLUMN, LENGTH, TOTAL = (Name(n) for n in ("begin", "i", "length", "total"))


def goes_down(values: Values, let: Let, pooled: Sequence[str]) -> bool:
    """Whether a pool is a plain sum of what does not lie together in memory."""
    op = let.op
    if not isinstance(op, Pool) or op.statistic != "sum" or op.where or op.weight:
        return False
    if any(isinstance(matrix, ByIndex) for _, matrix in op.over):
        return False
    array = not values.inline(op.value) and op.value not in values.inlined
    along = values.f.order(op.value)[-1:] if op.value not in values.f.matrices else ()
    return array and set(along).isdisjoint(pooled) and values.f.order(let.name)[-1:] == along != ()


def columns(values: Values, let: Let, pooled: Sequence[str]) -> list[Stmt]:
    """The sums along the last axis, a strip at a time; the other axes have their places already."""
    f, op = values.f, let.op
    assert isinstance(op, Pool)
    axis = f.order(let.name)[-1]
    here = {**values.here([*let.type.axes, *pooled]), axis: BEGIN}
    there = {**here, axis: Infix("+", BEGIN, COLUMN)}
    first = Prefix("&", values.value(op.value, here))
    body: list[Stmt] = [Do(Apply("add_up", (TOTAL, first, LENGTH)))]
    for inner in reversed(pooled):
        body = [For(f.variables[inner], ZERO, f.size(inner), tuple(body))]
    result = Set(values.value(let.name, there), "=", Prefix("(real)", Element(TOTAL, COLUMN)))
    rest = Infix("-", f.size(axis), BEGIN)
    return [
        For(
            "begin", ZERO, f.size(axis), step=Name("STRIP"),
            body=(
                Declare("const int64_t", "length", Apply("least", (Name("STRIP"), rest))),
                Declare("double", "total[STRIP]", Name("{0}")),
                *body,
                For("i", ZERO, LENGTH, (result,), simd=True),
            ),
        )
    ]  # fmt: skip
