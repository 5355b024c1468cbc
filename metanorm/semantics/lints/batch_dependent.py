"""MN0702: samples influence each other in eval mode."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.lints import BatchDependent, Crossing
from metanorm.diagnostics.model import Problem
from metanorm.ir.batch import crosses_samples, leading_axis
from metanorm.ir.nodes import Pool, Recurrence
from metanorm.ir.program import Program
from metanorm.semantics.lowering import CallScope, Lowering


def batch_dependent(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """A warning for each value that eval mode needs of other samples."""
    if program.target != "activation":
        return
    for let in crosses_samples(program, evaluating=True):
        axis = leading_axis(program.inputs[0], program.index.space)
        crossing: Crossing = "pool"
        if not isinstance(let.op, Pool):
            crossing = "scan" if isinstance(let.op, Recurrence) else "move"
        yield BatchDependent(let.span, axis, low.table.declared[axis].span, crossing)
