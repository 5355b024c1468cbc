"""Sparse weights of narrow values as C, which `metanorm/simplex.h` finds, and their adjoint."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import AxisMap, Let
from metanorm.nest.nest import Nest
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


def is_sparsestmax(op: object) -> bool:
    """Whether an operation is one, or the adjoint of one."""
    return isinstance(op, AxisMap) and op.function == "sparsestmax"


def on_simplex(nest: Nest) -> bool:
    """Whether a kernel needs that header."""
    return any(is_sparsestmax(let.op) for let in nest.program.body)


def sparsestmax(values: NarrowValues, let: Let, op: AxisMap) -> list[Stmt]:
    """The statements for one line along the axis; the other axes have their places already.

    The line is copied to where its results will be.
    """
    ctx, at = values.ctx, values.loop_positions(let.type.axes)
    assert op.argument is not None
    y, k, size = values.value(let.name, at), ctx.variables[op.axis], ctx.size(op.axis)
    first = Prefix("&", values.value(let.name, {**at, op.axis: ZERO}))
    step = ctx.stride(ctx.axis_order(let.name), (op.axis,))
    found = Apply("simplex_of", (first, size, step, ctx.in_double(op.argument)))

    def each(body: Sequence[Stmt]) -> For:
        return For(k, ZERO, size, tuple(body))

    done: list[Stmt] = [
        each([Assign(y, "=", values.value(op.value, at))]),
        Declare("const simplex", "nearest", found),
    ]
    if op.adjoint is None:
        return [*done, each([Assign(y, "=", Apply("weight_of", (NEAREST, y)))])]
    d = values.value(op.adjoint, at)
    return [
        *done,
        Declare("arrived", "arriving", CompoundLiteral("arrived", (ZERO, ZERO))),
        each([ExprStmt(Apply("arrive", (ARRIVED, NEAREST, y, d)))]),
        each([Assign(y, "=", Apply("adjoint_of", (NEAREST, ARRIVED, y, d)))]),
    ]
