"""Print sparsestmax and its gradient: functions of whole lines of narrow values.

A phase has a cell for each line, whose values are in arrays, as each is read several times.
"""

from __future__ import annotations

from metanorm.ir.nodes import AxisMap, Buffer, Input, Param, Ref
from metanorm.targets.python.pyir import Expr, ExprStmt, Name, Tuple
from metanorm.targets.triton.numbers import argument_key
from metanorm.targets.triton.scope import Array, Scope
from metanorm.targets.triton.terms import ONE, ZERO, call, plus


def print_sparsestmax(scope: Scope, ref: Ref, op: AxisMap) -> Array:
    """Print the call that stores a result of each line. Returns the array."""
    assert op.argument is not None
    arguments, ctx = scope.arguments, scope.ctx
    result = arguments(f"value {ref}", f"{scope.preferred_name(ref)}_of")
    lines = [*_line(scope, ref, op.axis, result)]
    for operand in (op.adjoint, op.value):
        if operand is not None:
            lines += _line(scope, operand, op.axis, _pointer(scope, operand))
    size = ctx.size(arguments, (op.axis,))
    radius = arguments(argument_key(op.argument), "radius")
    function = "simplex.store_weights" if op.adjoint is None else "simplex.store_gradients"
    store = call(function, *lines, size, radius, scope.masks["column"], Name("REAL"))
    scope.body.append(ExprStmt(store))
    return f"value {ref}", tuple(f"size {axis}" for axis in ctx.axis_order(ref))


def _pointer(scope: Scope, ref: Ref) -> Expr:
    """The array of an operand: a tensor of the call, or what another kernel has stored."""
    op = scope.ctx.lets[ref].op
    if isinstance(op, (Input, Param, Buffer)):
        return scope.arguments(f"tensor {op.name}", op.name.removeprefix("kept."))
    scope.reads.add(ref)
    return scope.arguments(f"value {ref}", f"{scope.preferred_name(ref)}_of")


def _line(scope: Scope, ref: Ref, axis: str, pointer: Expr) -> tuple[Expr, Expr]:
    """The pointers to the first value of each line, and the distance of the next one."""
    order = scope.ctx.axis_order(ref)
    lanes = call("tl.zeros", Tuple((ONE, Name("CELLS"))), Name("INDEX"))
    offset = plus(scope.offset(order, {**scope.at, axis: ZERO}), lanes)
    first = plus(pointer, offset)
    return first, scope.ctx.size(scope.arguments, order[order.index(axis) + 1 :])
