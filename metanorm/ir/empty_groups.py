"""Values of groups without members, whose statistics are zero.

Functions may have no derivative there. Their adjoint is zero, but zero times an infinity is NaN. A
gradient must skip such groups, unless an output returns their values, with a row for each group.
"""

from __future__ import annotations

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.index import closure
from metanorm.ir.nodes import Detach, Input, Map, Param, Ref
from metanorm.ir.operands import operands
from metanorm.ir.outputs import output_axes
from metanorm.ir.program import Program
from metanorm.ir.ranges import ranges

# Functions that have a pole, or an infinite slope, at an argument of zero: its position.
POLES = {"div": 1, "rsqrt": 0, "log": 0, "sqrt": 0, "pow": 0}


def returned_group_values(program: Program) -> frozenset[Ref]:
    """The values of groups that reach an output with one row for each group. Their adjoint may be
    other than zero in a group without members."""
    types, ops = program.index.types, program.index.ops
    group_axes = _group_axes(program)
    rows = [
        ref
        for name, ref in program.outputs
        if not group_axes.isdisjoint(output_axes(program, name, ref) or ())
    ]
    return frozenset(
        closure(
            rows,
            lambda ref: (o for o in operands(ops[ref]) if not group_axes.isdisjoint(types[o].axes)),
        )
    )


def singular_in_empty_groups(program: Program) -> frozenset[Ref]:
    """The functions of groups whose derivative may be infinite, or NaN, in a group without
    members: what has a pole there, and what reads that."""
    ops, inputs = program.index.ops, program.index.inputs
    types, group_axes = program.index.types, _group_axes(program)
    range_by_ref = ranges(program)
    derivable: set[Ref] = set()  # what can have a gradient
    singular: set[Ref] = set()
    for ref, op in ops.items():
        is_real_input = isinstance(op, Input) and inputs[op.name].sort == "tensor"
        is_leaf = is_real_input or isinstance(op, Param)
        if is_leaf or not (isinstance(op, Detach) or derivable.isdisjoint(operands(op))):
            derivable.add(ref)
        if group_axes.isdisjoint(types[ref].axes) or not isinstance(op, Map):
            continue
        pole = op.arguments[POLES[op.function]] if op.function in POLES else None
        has_pole = pole is not None and not range_by_ref[pole].positive
        if ref in derivable and (has_pole or not singular.isdisjoint(op.arguments)):
            singular.add(ref)
    return frozenset(singular)


def _group_axes(program: Program) -> set[str]:
    """The axes of cells that an index input makes."""
    cells = {axis.name: axis.cells_of for axis in program.index.space if axis.cells_of}
    return {name for name, (_, grouping) in cells.items() if isinstance(grouping, ByIndex)}
