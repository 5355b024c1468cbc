"""Values that may be NaN where nothing counts.

Beside statistics that leave elements out, what is left out may be NaN, and so is what is computed
from it element by element. No gradient arrives there, but zero times NaN is NaN: whoever derives
has to leave such places out, or they spread to the gradients of what they are multiplied with.
"""

from __future__ import annotations

from metanorm.ir.nodes import AxisMap, Count, Input, Param, Pool, Program, Ref, Repeat
from metanorm.ir.operands import operands


def exposed_to_nan(program: Program) -> frozenset[Ref]:
    """The values that may be NaN where nothing counts; none where every statistic takes all."""
    ops, inputs = program.index.ops, program.index.inputs

    weighs: dict[Ref, bool] = {}  # whether it may be zero: no count, share or given matrix
    for ref, op in ops.items():
        match op:
            case Input(name):
                weighs[ref] = inputs[name].sort == "tensor"
            case Param():
                weighs[ref] = True
            case Count() | AxisMap("softmax"):
                weighs[ref] = False
            case _:
                weighs[ref] = any(weighs[operand] for operand in operands(op))

    def leaves_out(op: object) -> bool:
        if isinstance(op, Repeat):
            return any(leaves_out(let.op) for let in op.body)
        if not isinstance(op, Pool):
            return False
        return op.where is not None or (op.weight is not None and weighs.get(op.weight, True))

    if not any(map(leaves_out, ops.values())):
        return frozenset()
    found: set[Ref] = set()
    for ref, op in ops.items():
        if isinstance(op, Input):
            reached = inputs[op.name].sort == "tensor"
        else:
            reached = not leaves_out(op) and any(operand in found for operand in operands(op))
        if reached:
            found.add(ref)
            if isinstance(op, Repeat):
                found.update(op.inside, (let.name for let in op.body))
    return frozenset(found)
