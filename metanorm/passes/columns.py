"""The program for a layout in which the parts of a split axis are contiguous: channels last.

A row then runs over all channels of a position, of whatever group. A statistic of a group is
measured for each channel and combined afterwards, and a value of a group is repeated for each of
its channels.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.nodes import Expand, Map, Pool, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def columns(program: Program, parts: tuple[str, ...]) -> Program | None:
    """The program in which no wide value needs `parts` one by one; `None` if there is none."""
    builder = Builder(program)
    input_dims = program.inputs[0].dims
    input_axes = {leaf for dim in input_dims for leaf in builder.space.leaves(dim)}
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        is_wide_pool = isinstance(op, Pool) and input_axes <= set(builder.types[op.value].axes)
        operands_read = operands(op) if is_wide_pool or input_axes <= set(let.type.axes) else ()
        if any(_tells_apart(builder, ref, parts, input_axes) for ref in operands_read):
            return None
        if isinstance(op, Pool) and is_wide_pool:
            where, weight = (
                None if ref is None else _with_all_parts(builder, ref, parts)
                for ref in (op.where, op.weight)
            )
            op = replace(op, where=where, weight=weight)
            result = _pool_in_steps(builder, op, set(parts))
            if result is None:
                return None
            builder.substitute(let, result)
        elif isinstance(op, Map) and input_axes <= set(let.type.axes):
            builder.span = let.span
            expanded_map = replace(
                op, arguments=tuple(_with_all_parts(builder, a, parts) for a in op.arguments)
            )
            builder.copy(let, expanded_map)
        elif isinstance(op, Expand) and input_axes <= set(let.type.axes):
            builder.span = let.span
            value = _with_all_parts(builder, op.value, parts)
            missing = tuple(a for a in op.axes if a not in builder.types[value].axes)
            builder.substitute(let, builder.emit(Expand(value, missing)) if missing else value)
        else:
            builder.copy(let)
    return builder.finish()


def _tells_apart(b: Builder, ref: Ref, parts: tuple[str, ...], input_axes: set[str]) -> bool:
    """Whether a value has some of the parts, and all other axes of the input.

    Repeated along the missing parts, it would be as large as the input.
    """
    axes = set(b.types[ref].axes)
    return not input_axes <= axes and input_axes <= axes | set(parts) and not axes.isdisjoint(parts)


def _with_all_parts(b: Builder, ref: Ref, parts: tuple[str, ...]) -> Ref:
    """The value, expanded to all parts if it has some of them."""
    present = set(b.types[ref].axes) & set(parts)
    if not present or present == set(parts):
        return ref
    return b.emit(Expand(ref, tuple(p for p in parts if p not in present)))


def _pool_in_steps(b: Builder, op: Pool, parts: set[str]) -> Ref | None:
    """A statistic over some of the parts: first over all other axes, then over these.

    `None` if the pool has no other axes, or has a mask or weights.
    """
    inside = tuple(pair for pair in op.over if pair[0] in parts)
    if not inside or {axis for axis, _ in inside} == parts:
        return b.emit(op)
    outside = tuple(pair for pair in op.over if pair[0] not in parts)
    if not outside or op.where is not None or op.weight is not None:
        return None
    if ACCUMULATIONS[op.statistic].rule == op.statistic or op.statistic == "sum":
        return b.emit(replace(op, value=b.emit(replace(op, over=outside)), over=inside))
    mean = b.emit(replace(op, statistic="mean", over=outside))
    if op.statistic == "mean":
        return b.emit(replace(op, value=mean, over=inside))
    var = b.emit(replace(op, over=outside))
    within = b.emit(Pool("mean", var, inside))
    return b.map("add", within, b.emit(Pool("var", mean, inside)))
