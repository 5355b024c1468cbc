"""Splits of axes that evaluation does not need."""

from __future__ import annotations

from metanorm.ir.nodes import Count, Let, Mode, Number, Pool, Ref, Repeat, Type
from metanorm.ir.program import Divisible, Program
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Hyper, leaves
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of


def is_unused_in_evaluation(check: Divisible, program: Program, keeps: bool = True) -> bool:
    """Whether evaluation needs no parts of the axis, so that it may have any length there.

    `keeps` is whether there are running statistics.
    """
    space = Space(program.axes)
    if space[check.axis].size is not None:
        return False
    parts = set(space.leaves(check.axis))
    live = reachable(program, updates=False, evaluating=True, keeps=keeps)
    types = _types_in_evaluation(program, space, keeps)
    lets = (let for let in program.body if let.name in live)
    return not any(_needs_parts(let, types[let.name].axes, check, parts, space) for let in lets)


def _types_in_evaluation(program: Program, space: Space, keeps: bool) -> dict[Ref, Type]:
    """The types of values in evaluation, where a mode has the axes of the chosen value alone.

    An operation that needs another axis of the mode, such as a pool, gets the value expanded.
    """
    declarations = Declarations(space, program.inputs, program.params, program.buffers)
    types: dict[Ref, Type] = {}
    for let in program.body:
        if isinstance(let.op, Mode):
            types[let.name] = types[let.op.eval if keeps or not let.op.buffer else let.op.train]
        else:
            try:
                types[let.name] = type_of(let.op, types, declarations)
            except IllTyped:
                types[let.name] = let.type
    return types


def _needs_parts(
    let: Let, axes: tuple[str, ...], check: Divisible, parts: set[str], space: Space
) -> bool:
    """Whether a binding has, or pools, some parts of an axis but not all. A loop may do so."""
    if isinstance(let.op, Repeat):
        return True
    parts_of_value = {axis for axis in axes if space.base(axis) == check.axis or axis in parts}
    if parts_of_value and parts_of_value != parts:
        return True
    over = let.op.over if isinstance(let.op, (Pool, Count)) else ()
    pooled_parts = {axis for axis, _ in over if axis in parts}
    return bool(pooled_parts) and pooled_parts != parts


def is_single_part_in_evaluation(check: Divisible, program: Program) -> bool:
    """Whether evaluation can treat an axis that it needs unsplit as a single part.

    It can if nothing else reads the hyperparameter that splits the axis.
    """
    if not isinstance(check.by, Hyper) or not is_unused_in_evaluation(check, program):
        return False
    numbers = (let.op.value for let in program.body if isinstance(let.op, Number))
    if any(check.by in leaves(number) for number in numbers):
        return False
    other_checks = (
        other for other in program.checks if isinstance(other, Divisible) and other != check
    )
    return all(other.axis != check.axis and other.by != check.by for other in other_checks)
