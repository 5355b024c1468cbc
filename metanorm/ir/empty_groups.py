"""Functions that may have no derivative in a group without members, whose statistics are zero.

Their adjoint there is zero, but zero times an infinity is NaN. A gradient must skip such groups.
"""

from __future__ import annotations

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Detach, Input, Map, Param, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.ranges import ranges

# Functions that have a pole, or an infinite slope, at an argument of zero: its position.
POLES = {"div": 1, "rsqrt": 0, "log": 0, "sqrt": 0, "pow": 0}


def singular_in_empty_groups(program: Program) -> frozenset[Ref]:
    """The functions of groups whose derivative may be infinite, or NaN, in a group without
    members: what has a pole there, and what reads that."""
    ops, inputs = program.index.ops, program.index.inputs
    types, space = program.index.types, program.index.space
    range_by_ref = ranges(program)
    of_groups = {
        axis.name for axis in space if axis.cells_of and isinstance(axis.cells_of[1], ByIndex)
    }
    derivable: set[Ref] = set()  # what can have a gradient
    singular: set[Ref] = set()
    for ref, op in ops.items():
        is_real_input = isinstance(op, Input) and inputs[op.name].sort == "tensor"
        is_leaf = is_real_input or isinstance(op, Param)
        if is_leaf or not (isinstance(op, Detach) or derivable.isdisjoint(operands(op))):
            derivable.add(ref)
        if of_groups.isdisjoint(types[ref].axes) or not isinstance(op, Map):
            continue
        pole = op.arguments[POLES[op.function]] if op.function in POLES else None
        has_pole = pole is not None and not range_by_ref[pole].positive
        if ref in derivable and (has_pole or not singular.isdisjoint(op.arguments)):
            singular.add(ref)
    return frozenset(singular)
