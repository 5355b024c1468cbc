"""Print recurrences as C: states that move along an axis, of several lines side by side."""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Let, Recurrence
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Prefix,
    Stmt,
)
from metanorm.targets.native.scan import BEGIN, LANE, LANES, ONE, ZERO, Lines, worker_memory
from metanorm.targets.native.values import NarrowValues

STATE = Element(Name("state"), LANE)
STEP = Name("step")


def recurrence(values: NarrowValues, let: Let, lines: Lines, worker: Expr) -> list[Stmt]:
    """The statements for all lines at one position of the outer axes.

    The states are in double, in the scratch memory of a worker.
    """
    op = let.op
    assert isinstance(op, Recurrence)
    lanes = Apply("min", (Name("LANES"), Infix("-", lines.high, BEGIN)))
    start = Assign(STATE, "=", values.value(op.start, lines.at))
    body: list[Stmt] = [
        Declare("const int64_t", "lanes", lanes),
        Declare("double *", "state", worker_memory(worker)),
        For("i", ZERO, LANES, (start,)),
        _steps(values, op, lines, _step(values, let, op, lines)),
    ]
    return [For("begin", lines.low, lines.high, tuple(body), step=Name("LANES"))]


def _step(values: NarrowValues, let: Let, op: Recurrence, lines: Lines) -> list[Stmt]:
    """One step of one line: the state moves, and is the result before or after that."""
    value, decay = (values.value(ref, lines.at) for ref in (op.value, op.decay))
    moved = Assign(STATE, "=", Infix("+", Infix("*", decay, STATE), value))
    result = Assign(values.value(let.name, lines.at), "=", Prefix("(real)", STATE))
    return [result, moved] if op.before else [moved, result]


def _steps(values: NarrowValues, op: Recurrence, lines: Lines, step: Sequence[Stmt]) -> Stmt:
    """The loops over all steps and lines, in the memory order of the lines."""
    position, size = values.ctx.variables[op.axis], values.ctx.size(op.axis)
    place: list[Stmt] = []
    counter = position
    if op.reverse:
        counter = STEP.text
        last = Infix("-", size, ONE)
        place = [Declare("const int64_t", position, Infix("-", last, STEP))]
    if lines.down:
        across = For("i", ZERO, LANES, tuple(step), simd=True)
        return For(counter, ZERO, size, (*place, across))
    return For("i", ZERO, LANES, (For(counter, ZERO, size, (*place, *step)),))
