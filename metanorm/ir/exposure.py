"""Values that may be NaN at elements that statistics leave out.

A mask or a zero weight leaves elements out, which may be NaN then, and so may every elementwise
function of them. Their adjoint is zero, but zero times NaN is NaN. A gradient must skip such
elements, or they spread to the gradients of their factors.
"""

from __future__ import annotations

from metanorm.ir.nodes import AxisMap, Count, Input, Param, Pool, Program, Ref, Repeat
from metanorm.ir.operands import operands


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
            case _:
                may_be_zero[ref] = any(may_be_zero[operand] for operand in operands(op))

    def leaves_out(op: object) -> bool:
        if isinstance(op, Repeat):
            return any(leaves_out(let.op) for let in op.body)
        if not isinstance(op, Pool):
            return False
        return op.where is not None or (op.weight is not None and may_be_zero.get(op.weight, True))

    if not any(map(leaves_out, ops.values())):
        return frozenset()
    exposed: set[Ref] = set()
    for ref, op in ops.items():
        if isinstance(op, Input):
            is_exposed = inputs[op.name].sort == "tensor"
        else:
            is_exposed = not leaves_out(op) and any(operand in exposed for operand in operands(op))
        if is_exposed:
            exposed.add(ref)
            if isinstance(op, Repeat):
                exposed.update(op.inside, (let.name for let in op.body))
    return frozenset(exposed)
