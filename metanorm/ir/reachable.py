"""What the outputs of a program depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metanorm.ir.aggregation import Aggregation, ByIndex
from metanorm.ir.index import closure
from metanorm.ir.nodes import Count, Input, Mode, Near, Op, Pool, Program, Ref, Repeat
from metanorm.ir.operands import operands


def reachable(
    program: Program, updates: bool = True, evaluating: bool = False, keeps: bool = True
) -> set[Ref]:
    """The bindings that outputs (and updates) need.

    `evaluating` follows eval mode only, with running statistics where the program `keeps` them.
    """
    wanted = [ref for _, ref in program.outputs]
    for update in program.updates if updates else ():
        wanted += [update.value, *([update.elements] if update.elements else [])]
    return _closure(wanted, program.index.ops, evaluating, keeps)


def outputs_without_first_input(program: Program) -> list[tuple[str, Ref]]:
    """The outputs that do not depend on the first input, in any mode."""
    ops = program.index.ops
    first = Input(program.inputs[0].name)
    return [
        (name, ref)
        for name, ref in program.outputs
        if all(ops[other] != first for other in _closure([ref], ops, False, True))
    ]


def pools_in_evaluation(program: Program, over: Aggregation) -> bool:
    """Whether these pools, or others over some of the same axes, count in eval mode too."""
    space = program.index.space
    wanted = {axis for axis, _ in over}
    reached = reachable(program, updates=False, evaluating=True)
    pools = [let.op for let in program.body if let.name in reached]
    return any(
        wanted & {space.base(axis) for axis, _ in op.over} for op in pools if isinstance(op, Pool)
    )


def _closure(
    wanted: Iterable[Ref], ops: Mapping[Ref, Op], evaluating: bool, keeps: bool
) -> set[Ref]:
    def read(ref: Ref) -> tuple[Ref, ...]:
        op = ops[ref]
        if evaluating and isinstance(op, Mode):
            return (op.eval if keeps or op.buffer is None else op.train,)
        return (*operands(op), *(index for index in pooling_indices(op) if index in ops))

    return closure(wanted, read)


def pooling_indices(op: Op) -> Iterator[Ref]:
    """The index inputs by which an operation pools."""
    if isinstance(op, (Pool, Count, Near)):
        yield from (matrix.index for _, matrix in op.over if isinstance(matrix, ByIndex))
    elif isinstance(op, Repeat):
        for let in op.body:
            yield from pooling_indices(let.op)
