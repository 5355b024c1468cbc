"""Rewrite lookups by an index as values of the index's groups.

`gamma[label]` has one row of `gamma` for each label. So it is `gamma[K -> N/label]`, a value of
cells: kernels read it at the label of each position, and its gradient is a sum over each group, as
for every value of cells. After this pass, no program has a lookup by an index of one axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import (
    AxisMap,
    Concat,
    Count,
    Expand,
    Input,
    Lookup,
    Op,
    Piece,
    Pool,
    Recurrence,
    Ref,
    Rename,
)
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def lookups(program: Program) -> Program:
    """The program with renamed tables in place of lookups by an index along one axis."""
    lookup_axes = {
        let.name: axis for let in program.body if (axis := _lookup_axis(program, let.op))
    }
    if not lookup_axes:
        return program
    builder = Builder(program)
    for let in program.body:
        if let.name not in lookup_axes:
            builder.copy(let, _expanded(builder, map_operands(let.op, builder.value_map)))
            continue
        assert isinstance(let.op, Lookup) and isinstance(let.op.index, str)
        index = program.index.ops[let.op.index]
        assert isinstance(index, Input)
        builder.span = let.span
        cell = builder.space.cell_axis(lookup_axes[let.name], ByIndex(index.name))
        row = builder.emit(Rename(builder.value_map[let.op.table], let.op.axis, cell))
        builder.substitute(let, row)
    outputs = []
    for name, ref in program.outputs:
        value = builder.value_map[ref]
        for axis in program.index.types[ref].axes:
            value = _with_axis(builder, value, axis)
        outputs.append((name, value))
    return builder.finish(outputs=outputs)


def _lookup_axis(program: Program, op: Op) -> str:
    """The axis of the index of a lookup.

    Empty for other operations, for an index with none or several axes, and for a table that has
    the axis, too.
    """
    if not isinstance(op, Lookup) or isinstance(op.index, int):
        return ""
    index = program.index
    index_op, axes = index.ops[op.index], index.types[op.index].axes
    input_axes = {leaf for dim in program.inputs[0].dims for leaf in index.space.leaves(dim)}
    if not isinstance(index_op, Input) or len(axes) != 1 or axes[0] not in input_axes:
        return ""
    is_unsplit = index.inputs[index_op.name].dims == axes  # the axis is no part of a split one
    table_axes = {index.space.base(axis) for axis in index.types[op.table].axes}
    return axes[0] if is_unsplit and axes[0] not in table_axes else ""


def _expanded(builder: Builder, op: Op) -> Op:
    """An operation along an axis, with operands expanded from groups of the axis to the axis."""

    def expander(axis: str) -> Callable[[Ref | None], Ref | None]:
        return lambda ref: None if ref is None else _with_axis(builder, ref, axis)

    match op:
        case Pool(over=over):
            for axis, _ in over:
                expand = expander(axis)
                value = expand(op.value) or op.value
                op = replace(op, value=value, where=expand(op.where), weight=expand(op.weight))
        case Count(over=over):
            for axis, _ in over:
                expand = expander(axis)
                op = replace(op, where=expand(op.where), weight=expand(op.weight))
        case Recurrence(axis=axis):
            value, decay = (_with_axis(builder, ref, axis) for ref in (op.value, op.decay))
            op = replace(op, value=value, decay=decay)
        case AxisMap(axis=axis) | Rename(old=axis):
            op = replace(op, value=_with_axis(builder, op.value, axis))
        case Lookup(axis=axis):
            op = replace(op, table=_with_axis(builder, op.table, axis))
        case Piece(piece=piece):
            whole, _ = builder.space.cut(piece)
            op = replace(op, value=_with_axis(builder, op.value, whole))
        case Concat(values=values, pieces=pieces):
            op = replace(op, values=tuple(map(partial(_with_axis, builder), values, pieces)))
    return op


def _with_axis(builder: Builder, ref: Ref, axis: str) -> Ref:
    """A value expanded to an axis, if it has cells of the axis."""
    axes = builder.types[ref].axes
    has_cells = axis not in axes and any(
        builder.space.base(value_axis) == axis for value_axis in axes
    )
    return builder.emit(Expand(ref, (axis,))) if has_cells else ref
