"""Cuts that evaluation does not need."""

from __future__ import annotations

from metanorm.ir.nodes import (
    Count,
    Divisible,
    Let,
    Mode,
    Number,
    Pool,
    Program,
    Ref,
    Repeat,
    Type,
)
from metanorm.ir.reachable import reachable
from metanorm.ir.scalar import Hyper, leaves
from metanorm.ir.space import Space
from metanorm.ir.typing import Declarations, IllTyped, type_of


def is_unused_in_evaluation(check: Divisible, program: Program, keeps: bool = True) -> bool:
    """Whether nothing is cut along the axis in evaluation, so that any length will do there.

    `keeps` is whether there are running statistics.
    """
    space = Space(program.axes)
    if space[check.axis].size is not None:
        return False
    parts = set(space.leaves(check.axis))
    reached = reachable(program, updates=False, evaluating=True, keeps=keeps)
    types = _types(program, space, keeps)
    lets = (let for let in program.body if let.name in reached)
    return not any(_cuts(let, types[let.name].axes, check, parts, space) for let in lets)


def _types(program: Program, space: Space, keeps: bool) -> dict[Ref, Type]:
    """The types of values in evaluation, where a mode is as small as what it chooses.

    What needs an axis of a mode, such as a pool over it, gets it repeated along that.
    """
    known = Declarations(space, program.inputs, program.params, program.buffers)
    types: dict[Ref, Type] = {}
    for let in program.body:
        if isinstance(let.op, Mode):
            types[let.name] = types[let.op.eval if keeps or not let.op.buffer else let.op.train]
        else:
            try:
                types[let.name] = type_of(let.op, types, known)
            except IllTyped:
                types[let.name] = let.type
    return types


def _cuts(let: Let, axes: tuple[str, ...], check: Divisible, parts: set[str], space: Space) -> bool:
    """Whether a binding tells the parts of an axis apart, or does what may do so."""
    if isinstance(let.op, Repeat):
        return True
    own = {axis for axis in axes if space.base(axis) == check.axis or axis in parts}
    if own and own != parts:
        return True
    over = let.op.over if isinstance(let.op, (Pool, Count)) else ()
    cut = {axis for axis, _ in over if axis in parts}
    return bool(cut) and cut != parts


def is_single_part_in_evaluation(check: Divisible, program: Program) -> bool:
    """Whether evaluation can take an idle axis as a single part.

    That is so where a hyperparameter cuts it that nothing else reads.
    """
    if not isinstance(check.by, Hyper) or not is_unused_in_evaluation(check, program):
        return False
    numbers = (let.op.value for let in program.body if isinstance(let.op, Number))
    if any(check.by in leaves(number) for number in numbers):
        return False
    others = (c for c in program.checks if isinstance(c, Divisible) and c != check)
    return all(c.axis != check.axis and c.by != check.by for c in others)
