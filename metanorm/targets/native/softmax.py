"""Print the softmax of narrow values along an axis as C."""

from __future__ import annotations

from metanorm.ir.nodes import Let, Ref
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Declare,
    Infix,
    Name,
    Number,
    Prefix,
    Stmt,
)
from metanorm.targets.native.functions import FUNCTIONS
from metanorm.targets.native.values import NarrowValues

ZERO, LARGEST, TOTAL = Number(0), Name("largest"), Name("total")


def softmax(values: NarrowValues, let: Let, value: Ref, axis: str) -> list[Stmt]:
    """The statements for one line along the axis. Loops around it set all other positions.

    The largest value is subtracted first, so that no exponential overflows.
    """
    at = values.loop_positions(let.type.axes)
    x, y = values.value(value, at), values.value(let.name, at)
    exp = Apply("R(exp)", (Infix("-", x, LARGEST),))
    return [
        Declare("real", "largest", Prefix("-", Name("INFINITY"))),
        values.line_loop(axis, [Assign(LARGEST, "=", FUNCTIONS["max"](x, LARGEST))], let.name),
        Declare("real", "total", ZERO),
        values.line_loop(axis, [Assign(y, "=", exp), Assign(TOTAL, "+=", y)], let.name),
        values.line_loop(axis, [Assign(y, "=", Infix("/", y, TOTAL))], let.name),
    ]
