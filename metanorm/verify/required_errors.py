"""The calls that a norm must refuse: those with a variance of a single value."""

from __future__ import annotations

import math

from metanorm.ir.aggregation import pool_size
from metanorm.ir.program import MinimumPoolSize, Program
from metanorm.ir.reachable import pools_in_evaluation
from metanorm.ir.scalar import Apply, Const, Scalar, SizeOf, evaluate
from metanorm.verify.cases import Example, Setting


def must_refuse(program: Program, setting: Setting, example: Example) -> bool:
    """Whether a call in this mode, with inputs of these shapes, must raise an error."""
    first = example.inputs[program.inputs[0].name]
    empty = first is not None and first.numel() == 0
    checks = [check for check in program.checks if isinstance(check, MinimumPoolSize)]
    return not empty and any(
        _pools_are_computed(program, check, setting) and _pool_size(program, check, example) == 1
        for check in checks
    )


def _pools_are_computed(program: Program, check: MinimumPoolSize, setting: Setting) -> bool:
    """Whether the pools of a check are computed in this mode."""
    if setting.training:
        return True
    if not check.tracked:
        return pools_in_evaluation(program, check.over)
    kept = {switch.name: switch.default for switch in program.switches} | {**setting.switches}
    return not kept.get("track_running_stats", True)


def _pool_size(program: Program, check: MinimumPoolSize, example: Example) -> int:
    """The number of elements of each pool."""
    lengths = {axis: math.prod(shape) for axis, shape in example.shapes.items()}
    numbers = {n: v for n, v in example.arguments.items() if isinstance(v, (int, float))}

    size: Scalar = Const(1)
    for axis, matrix in check.over:
        size = Apply("mul", (size, pool_size(matrix, SizeOf(axis))))
    return int(evaluate(size, numbers, lengths))
