"""Lowering of `scan(x over T, decay = a, start = s)`, a state that moves along an axis."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.diagnostics.statistics import BadOption
from metanorm.diagnostics.values import WrongKind
from metanorm.ir.aggregation import Ones, grouping_text
from metanorm.ir.nodes import Expand, Recurrence
from metanorm.semantics.lowering import Lowering
from metanorm.semantics.pools import LoweredPool
from metanorm.semantics.values import POISON, Tensor, Value
from metanorm.syntax import ast

OPTIONS = ("decay", "start", "reverse")
BEFORE = "before"  # the field of a scan that is the state before each position


def scan(
    call: ast.Call,
    value: Tensor,
    pool: LoweredPool,
    options: dict[str, ast.Keyword],
    number: Callable[[ast.Expr], Tensor | None],
    low: Lowering,
) -> Value:
    """Lower a scan, whose axis and options are known."""
    axis = _axis(call, pool, low)
    if "decay" not in options:
        hint = "write `scan(x over T, decay = a)`: each state is `a` times the last one, plus x"
        low.problems.add(BadOption(call.span, "decay", "scan", "`scan` needs a `decay`", hint=hint))
    operands = [number(options[name].value) for name in ("decay", "start") if name in options]
    reverse = _flag(options.get("reverse"), low)
    if axis is None or "decay" not in options or reverse is None:
        return POISON
    if any(operand is None for operand in operands):
        return POISON
    decay, start = (*(o for o in operands if o), low.number(0, call.span))[:2]
    if axis in map(low.table.space.base, start.type.axes):
        hint = f"give one position of it: `start = x[{low.table.shown(axis)} = 0]`"
        shown = f"a value along axis `{low.table.shown(axis)}`"
        span = options["start"].value.span
        low.problems.add(WrongKind(span, shown, "the state before the first position", hint))
        return POISON
    value, decay = (_on(tensor, axis, call, low) for tensor in (value, decay))
    return low.emit(Recurrence(value.ref, decay.ref, start.ref, axis, reverse), call.span)


def is_scan(value: Tensor, low: Lowering) -> bool:
    """Whether a value is the state after each position, which has the field `before`."""
    op = low.ops.get(value.ref)
    return isinstance(op, Recurrence) and not op.before


def state_before(value: Tensor, field: ast.Identifier, low: Lowering) -> Value | None:
    """The field `before` of a scan; `None` for anything else."""
    op = low.ops.get(value.ref)
    if not is_scan(value, low) or not isinstance(op, Recurrence) or field.name != BEFORE:
        return None
    before = replace(op, before=True)
    known = next((let for let in low.body if let.op == before), None)
    if known is not None:
        return Tensor(known.name, known.type)
    name = "" if value.ref.startswith("%") else low.unique(f"{value.ref}_before")
    return low.emit(before, field.span, name)


def _axis(call: ast.Call, pool: LoweredPool, low: Lowering) -> str | None:
    """The axis of a scan; `None` after a report."""
    axis, matrix = pool.over[0]
    is_single = len(pool.over) == 1 and isinstance(matrix, Ones) and pool.is_unweighted
    if is_single and not low.table.space[axis].variadic:
        return axis
    assert call.over is not None
    actual, hint = _what_is_no_axis(pool, low)
    low.problems.add(WrongKind(call.over.span, actual, "a single axis", hint))
    return None


def _what_is_no_axis(pool: LoweredPool, low: Lowering) -> tuple[str, str]:
    """What stands in the place of the axis of a scan, and what to write instead."""
    axis, matrix = pool.over[0]
    if not pool.is_unweighted:
        hint = "a position that is left out changes nothing: `where(m, x, 0)`, `where(m, a, 1)`"
        return "a mask or weights", hint
    shown, actual = low.table.shown(axis), f"a pool, `{grouping_text(matrix)}`"
    hint = f"a state takes in all positions before: write `scan(x over {shown}, decay = a)`"
    if len(pool.over) > 1:
        actual = "several axes"
        hint = f"scan one, then the next: `scan(scan(x over {shown}, ...), ...)`"
    elif low.table.space[axis].variadic:
        actual = f"any number of axes, `{shown}`"
        hint = "name the axis that is scanned in the `input`: `x[N, T]`"
    return actual, hint


def _flag(keyword: ast.Keyword | None, low: Lowering) -> bool | None:
    """Whether a scan goes in reverse; `None` after a report."""
    if keyword is None:
        return False
    if isinstance(keyword.value, ast.Name) and keyword.value.name in ("true", "false"):
        return keyword.value.name == "true"
    reason, hint = "`reverse` is `true` or `false`", "write `reverse = true`"
    span = keyword.value.span
    low.problems.add(BadOption(span, "reverse", "scan", reason, hint=hint))
    return None


def _on(tensor: Tensor, axis: str, call: ast.Call, low: Lowering) -> Tensor:
    """The value on the positions of the axis, if it has one for each group of them; and as a
    number, if it is a condition."""
    if axis not in tensor.type.axes and axis in map(low.table.space.base, tensor.type.axes):
        return low.emit(Expand(tensor.ref, (axis,)), call.span)
    return tensor
