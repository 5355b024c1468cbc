"""Cuts that evaluation does not need."""

from __future__ import annotations

from metanorm.ir.nodes import Count, Divisible, Number, Pool, Program
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Hyper, leaves
from metanorm.ir.space import Space


def is_idle(check: Divisible, program: Program) -> bool:
    """Whether nothing is pooled along a cut axis where running statistics take over.

    Batches of any length can then be evaluated: as a single part, for the number that cuts them,
    a hyperparameter, is read by nothing else.
    """
    space = Space(program.axes)
    if not isinstance(check.by, Hyper) or space[check.axis].size is not None:
        return False
    if not any(buffer.tracked for buffer in program.buffers):
        return False
    reached = reachable(program, updates=False, evaluating=True)
    for let in program.body:
        read = isinstance(let.op, Number) and check.by in leaves(let.op.value)
        over = let.op.over if isinstance(let.op, (Pool, Count)) and let.name in reached else ()
        if read or any(space.base(axis) == check.axis for axis, _ in over):
            return False
    others = (c for c in program.checks if isinstance(c, Divisible) and c != check)
    return all(c.axis != check.axis and c.by != check.by for c in others)
