"""A program for data in which the parts of a split axis lie together: channels last.

Rows then run over all channels of a position, whatever group they belong to. A statistic of a
group is measured for each channel and joined afterwards, and a value of a group stands beside
each of its channels.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.accumulation import ACCUMULATIONS
from metanorm.ir.nodes import Expand, Map, Pool, Program, Ref
from metanorm.ir.operands import operands
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def columns(program: Program, parts: tuple[str, ...]) -> Program | None:
    """The program in which nothing wide tells `parts` apart; `None` where that cannot be."""
    builder = Builder(program)
    first = program.inputs[0].dims
    frame = {leaf for dim in first for leaf in builder.space.leaves(dim)}
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        pooled = isinstance(op, Pool) and frame <= set(builder.types[op.value].axes)
        read = operands(op) if pooled or frame <= set(let.type.axes) else ()
        if any(_tells_apart(builder, ref, parts, frame) for ref in read):
            return None
        if isinstance(op, Pool) and pooled:
            where, weight = (
                None if ref is None else _beside(builder, ref, parts)
                for ref in (op.where, op.weight)
            )
            op = replace(op, where=where, weight=weight)
            result = _in_steps(builder, op, set(parts))
            if result is None:
                return None
            builder.substitute(let, result)
        elif isinstance(op, Map) and frame <= set(let.type.axes):
            builder.span = let.span
            wide = replace(op, arguments=tuple(_beside(builder, a, parts) for a in op.arguments))
            builder.copy(let, wide)
        else:
            builder.copy(let)
    return builder.finish()


def _tells_apart(b: Builder, ref: Ref, parts: tuple[str, ...], frame: set[str]) -> bool:
    """Whether a value has some of the parts, and all other axes of the data: repeated along the
    other parts, it would be as large as the data."""
    axes = set(b.types[ref].axes)
    return not frame <= axes and frame <= axes | set(parts) and not axes.isdisjoint(parts)


def _beside(b: Builder, ref: Ref, parts: tuple[str, ...]) -> Ref:
    """A value that has all of the parts or none."""
    present = set(b.types[ref].axes) & set(parts)
    if not present or present == set(parts):
        return ref
    return b.emit(Expand(ref, tuple(p for p in parts if p not in present)))


def _in_steps(b: Builder, op: Pool, parts: set[str]) -> Ref | None:
    """A statistic over some of the parts: first over everything else, then over those."""
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
