"""Values that may be NaN or infinite at elements that statistics leave out, or of empty groups.

A mask or a zero weight leaves elements out, which may be NaN then, and so may every elementwise
function of them. Their adjoint is zero, but zero times NaN is NaN. A gradient must skip such
elements, or they spread to the gradients of their factors. The same holds for a group without
members, whose statistics are zero, if something is divided by them. Where a program chooses
between values of runs of an axis, no adjoint arrives at the one that it does not take, which may be
NaN even if it is made of a statistic of its run alone.
"""

from __future__ import annotations

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import (
    AxisMap,
    Count,
    Detach,
    Input,
    Inside,
    Map,
    Number,
    Op,
    Param,
    Pool,
    Ref,
    Repeat,
)
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.ranges import ranges
from metanorm.ir.scalar import Const


def exposed_to_nan(program: Program) -> frozenset[Ref]:
    """The values that may be NaN at elements left out; none if no statistic leaves elements out."""
    ops, inputs = program.index.ops, program.index.inputs

    may_be_zero: dict[Ref, bool] = {}  # as a weight: not of counts, softmax and given matrices
    for ref, op in ops.items():
        match op:
            case Input(name):
                may_be_zero[ref] = inputs[name].sort == "tensor"
            case Param():
                may_be_zero[ref] = True
            case Count() | AxisMap("softmax", adjoint=None):
                may_be_zero[ref] = False
            case Map("where", (_, *choices)):  # a mask as a weight, where(keep, 1, 0)
                may_be_zero[ref] = any(may_be_zero[c] or _is_zero(ops[c]) for c in choices)
            case _:
                may_be_zero[ref] = any(may_be_zero[operand] for operand in operands(op))

    def leaves_out(op: object) -> bool:
        if isinstance(op, Repeat):
            return any(leaves_out(let.op) for let in op.body)
        if not isinstance(op, Pool):
            return False
        return op.where is not None or (op.weight is not None and may_be_zero.get(op.weight, True))

    chooses_runs = any(isinstance(op, Inside) for op in ops.values())
    if not chooses_runs and not any(map(leaves_out, ops.values())):
        return frozenset()
    exposed: set[Ref] = set()
    for ref, op in ops.items():
        if isinstance(op, Input):
            is_exposed = inputs[op.name].sort == "tensor"
        else:
            is_clean = leaves_out(op) and not chooses_runs
            is_exposed = not is_clean and any(operand in exposed for operand in operands(op))
        if is_exposed:
            exposed.add(ref)
            if isinstance(op, Repeat):
                exposed.update(op.inside, (let.name for let in op.body))
    return frozenset(exposed)


def _is_zero(op: Op) -> bool:
    return isinstance(op, Number) and op.value == Const(0.0)


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
