"""Print sparsestmax of narrow values and its adjoint as C, by calls of `metanorm/simplex.h`."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import AxisMap, Let
from metanorm.nest.nest import Nest
from metanorm.nest.statements import is_sparsestmax
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    CompoundLiteral,
    Declare,
    ExprStmt,
    For,
    Name,
    Number,
    Prefix,
    Stmt,
)
from metanorm.targets.native.values import NarrowValues

ZERO = Number(0)
NEAREST, ARRIVED = Prefix("&", Name("nearest")), Prefix("&", Name("arriving"))


def on_simplex(nest: Nest) -> bool:
    """Whether a kernel needs the header `metanorm/simplex.h`."""
    return any(is_sparsestmax(let.op) for let in nest.program.body)


def sparsestmax(values: NarrowValues, let: Let, op: AxisMap) -> list[Stmt]:
    """The statements for one line along the axis. Loops around it set all other positions.

    The line is copied to the array of results first, and replaced there.
    """
    ctx, at = values.ctx, values.loop_positions(let.type.axes)
    assert op.argument is not None
    y, size = values.value(let.name, at), ctx.size(op.axis)
    first = Prefix("&", values.value(let.name, {**at, op.axis: ZERO}))
    step = ctx.stride(ctx.axis_order(let.name), (op.axis,))
    simplex = Apply("simplex_of", (first, size, step, ctx.in_double(op.argument)))

    def line_loop(body: Sequence[Stmt]) -> For:
        return values.line_loop(op.axis, body, let.name)

    statements: list[Stmt] = [
        line_loop([Assign(y, "=", values.value(op.value, at))]),
        Declare("const simplex", "nearest", simplex),
    ]
    if op.adjoint is None:
        return [*statements, line_loop([Assign(y, "=", Apply("weight_of", (NEAREST, y)))])]
    d = values.value(op.adjoint, at)
    return [
        *statements,
        Declare("arrived", "arriving", CompoundLiteral("arrived", (ZERO, ZERO))),
        line_loop([ExprStmt(Apply("arrive", (ARRIVED, NEAREST, y, d)))]),
        line_loop([Assign(y, "=", Apply("adjoint_of", (NEAREST, ARRIVED, y, d)))]),
    ]
