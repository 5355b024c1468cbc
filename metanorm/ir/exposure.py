"""Values that may be NaN or infinite at elements that statistics leave out.

A mask or a zero weight leaves elements out, which may be NaN then, and so may every elementwise
function of them. Their adjoint is zero, but zero times NaN is NaN. A gradient must skip such
elements, or they spread to the gradients of their factors. Where a program chooses between values
of runs of an axis, no adjoint arrives at the one that it does not take, which may be NaN even if it
is made of a statistic of its run alone.
"""

from __future__ import annotations

from collections.abc import Set

from metanorm.ir.nodes import (
    AxisMap,
    Count,
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
from metanorm.ir.scalar import Const


def exposed_to_nan(program: Program) -> frozenset[Ref]:
    """The values that may be NaN at elements left out; none if no statistic leaves elements out."""
    ops, inputs = program.index.ops, program.index.inputs
    never_zero = _never_zero(program)
    chooses_runs = any(isinstance(op, Inside) for op in ops.values())
    if not chooses_runs and not any(_leaves_out(op, never_zero) for op in ops.values()):
        return frozenset()
    exposed: set[Ref] = set()
    for ref, op in ops.items():
        if isinstance(op, Input):
            is_exposed = inputs[op.name].sort == "tensor"
        else:
            is_clean = _leaves_out(op, never_zero) and not chooses_runs
            is_exposed = not is_clean and any(operand in exposed for operand in operands(op))
        if is_exposed:
            exposed.add(ref)
            if isinstance(op, Repeat):
                exposed.update(op.inside, (let.name for let in op.body))
    return frozenset(exposed)


def _leaves_out(op: Op, never_zero: Set[Ref]) -> bool:
    """Whether a statistic, or one in a loop, may leave elements out."""
    if isinstance(op, Repeat):
        return any(_leaves_out(let.op, never_zero) for let in op.body)
    if not isinstance(op, Pool):
        return False
    return op.where is not None or (op.weight is not None and op.weight not in never_zero)


def _never_zero(program: Program) -> frozenset[Ref]:
    """The values that are no zeros as weights: counts, softmax, given matrices, and what is made of
    these and of numbers."""
    ops, inputs = program.index.ops, program.index.inputs
    never_zero: set[Ref] = set()
    for ref, op in ops.items():
        match op:
            case Input(name):
                is_never_zero = inputs[name].sort != "tensor"
            case Param():
                is_never_zero = False
            case Count() | AxisMap("softmax", adjoint=None):
                is_never_zero = True
            case Map("where", (_, *choices)):  # a mask as a weight, where(keep, 1, 0)
                is_never_zero = all(c in never_zero and not _is_zero(ops[c]) for c in choices)
            case _:
                is_never_zero = never_zero.issuperset(operands(op))
        if is_never_zero:
            never_zero.add(ref)
    return frozenset(never_zero)


def _is_zero(op: Op) -> bool:
    return isinstance(op, Number) and op.value == Const(0.0)
