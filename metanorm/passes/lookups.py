"""A row that an index chooses from a table is a value of the group of that index.

`gamma[label]` has one row of `gamma` for each label, wherever that stands along N. So it is
`gamma[K -> N/label]`, a value of cells, which kernels read at the place that the label tells; its
gradient is a sum over the rows of each group, as that of every value of a group is. Nothing beyond
this pass knows lookups by an index of one axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import (
    AxisMap,
    Count,
    Expand,
    Input,
    Lookup,
    Op,
    Pool,
    Program,
    Ref,
    Rename,
)
from metanorm.ir.rename import map_operands
from metanorm.passes.builder import Builder


def lookups(program: Program) -> Program:
    """The program with renamed tables in place of lookups by an index along one axis."""
    chosen = {let.name: axis for let in program.body if (axis := _rows(program, let.op))}
    if not chosen:
        return program
    builder = Builder(program)
    for let in program.body:
        if let.name not in chosen:
            builder.copy(let, _spread(builder, map_operands(let.op, builder.value_map)))
            continue
        assert isinstance(let.op, Lookup) and isinstance(let.op.index, str)
        index = program.index.ops[let.op.index]
        assert isinstance(index, Input)
        builder.span = let.span
        cell = builder.space.cells(chosen[let.name], ByIndex(index.name))
        row = builder.emit(Rename(builder.value_map[let.op.table], let.op.axis, cell))
        builder.substitute(let, row)
    outputs = []
    for name, ref in program.outputs:
        found = builder.value_map[ref]
        for axis in program.index.types[ref].axes:
            found = _with_axis(builder, found, axis)
        outputs.append((name, found))
    return builder.finish(outputs=outputs)


def _rows(program: Program, op: Op) -> str:
    """The axis along which an index chooses rows of a table; empty where that is none, or several,
    or the table has that axis itself."""
    if not isinstance(op, Lookup) or isinstance(op.index, int):
        return ""
    index = program.index
    given, axes = index.ops[op.index], index.types[op.index].axes
    first = {leaf for dim in program.inputs[0].dims for leaf in index.space.leaves(dim)}
    if not isinstance(given, Input) or len(axes) != 1 or axes[0] not in first:
        return ""
    whole = index.inputs[given.name].dims == axes  # not a part of a split axis
    table = {index.space.base(axis) for axis in index.types[op.table].axes}
    return axes[0] if whole and axes[0] not in table else ""


def _spread(builder: Builder, op: Op) -> Op:
    """An operation that looks along an axis, of values that have it and not its groups."""

    def along(axis: str) -> Callable[[Ref | None], Ref | None]:
        return lambda ref: None if ref is None else _with_axis(builder, ref, axis)

    match op:
        case Pool(over=over):
            for axis, _ in over:
                take = along(axis)
                value = take(op.value) or op.value
                op = replace(op, value=value, where=take(op.where), weight=take(op.weight))
        case Count(over=over):
            for axis, _ in over:
                take = along(axis)
                op = replace(op, where=take(op.where), weight=take(op.weight))
        case AxisMap(axis=axis) | Rename(old=axis):
            op = replace(op, value=_with_axis(builder, op.value, axis))
    return op


def _with_axis(builder: Builder, ref: Ref, axis: str) -> Ref:
    """A value with an axis, where it has that of its groups."""
    axes = builder.types[ref].axes
    of_groups = axis not in axes and any(builder.space.base(own) == axis for own in axes)
    return builder.emit(Expand(ref, (axis,))) if of_groups else ref
