"""What the outputs of a program depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.aggregation import Aggregation, ByIndex
from metanorm.ir.nodes import Count, Input, Mode, Op, Pool, Program, Ref, Repeat
from metanorm.ir.operands import operands
from metanorm.ir.space import Space


def reachable(
    program: Program, updates: bool = True, evaluating: bool = False, keeps: bool = True
) -> set[Ref]:
    """The bindings that outputs (and updates) need.

    `evaluating` follows eval mode only, with running statistics where the program `keeps` them.
    """
    ops = {let.name: let.op for let in program.body}
    wanted = [ref for _, ref in program.outputs]
    wanted += [update.value for update in program.updates] if updates else []
    return _closure(wanted, ops, evaluating, keeps)


def outputs_of_others(program: Program) -> list[tuple[str, Ref]]:
    """The outputs that do not depend on the first input, in any mode."""
    ops = {let.name: let.op for let in program.body}
    first = Input(program.inputs[0].name)
    return [
        (name, ref)
        for name, ref in program.outputs
        if all(ops[other] != first for other in _closure([ref], ops, False, True))
    ]


def pools_in_evaluation(program: Program, over: Aggregation) -> bool:
    """Whether these pools, or others over some of the same axes, count in eval mode too."""
    space = Space(program.axes)
    wanted = {axis for axis, _ in over}
    reached = reachable(program, updates=False, evaluating=True)
    pools = [let.op for let in program.body if let.name in reached]
    return any(
        wanted & {space.base(axis) for axis, _ in op.over} for op in pools if isinstance(op, Pool)
    )


def _closure(wanted: Iterable[Ref], ops: dict[Ref, Op], evaluating: bool, keeps: bool) -> set[Ref]:
    reached: set[Ref] = set()
    queue = list(wanted)
    while queue:
        ref = queue.pop()
        if ref in reached or ref not in ops:
            continue
        reached.add(ref)
        op = ops[ref]
        if evaluating and isinstance(op, Mode):
            queue.append(op.eval if keeps or op.buffer is None else op.train)
        else:
            queue.extend(operands(op))
            queue.extend(indices(op))
    return reached


def indices(op: Op) -> Iterator[Ref]:
    """The index inputs by which an operation pools."""
    if isinstance(op, (Pool, Count)):
        yield from (matrix.index for _, matrix in op.over if isinstance(matrix, ByIndex))
    elif isinstance(op, Repeat):
        for let in op.body:
            yield from indices(let.op)
