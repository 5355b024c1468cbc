"""The bindings that the outputs of a program depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from metanorm.ir.aggregation import Aggregation, index_of
from metanorm.ir.index import closure
from metanorm.ir.nodes import Count, Input, Mode, Near, Op, Pool, Ref, Repeat
from metanorm.ir.operands import operands
from metanorm.ir.program import Program


def reachable(
    program: Program, updates: bool = True, evaluating: bool = False, keeps: bool = True
) -> set[Ref]:
    """The bindings that the outputs depend on, and the updates unless `updates` is false.

    `evaluating` takes each mode in evaluation only; `keeps` says whether there are running
    statistics then.
    """
    roots = [ref for _, ref in program.outputs]
    for update in program.updates if updates else ():
        roots += [update.value, *([update.elements] if update.elements else [])]
    return _closure(roots, program.index.ops, evaluating, keeps)


def outputs_without_first_input(program: Program) -> list[tuple[str, Ref]]:
    """The outputs that do not depend on the first input, in any mode."""
    ops = program.index.ops
    first_input = Input(program.inputs[0].name)
    return [
        (name, ref)
        for name, ref in program.outputs
        if all(ops[other] != first_input for other in _closure([ref], ops, False, True))
    ]


def pools_in_evaluation(program: Program, over: Aggregation) -> bool:
    """Whether evaluation has pools over some of these axes."""
    space = program.index.space
    axes = {axis for axis, _ in over}
    live = reachable(program, updates=False, evaluating=True)
    pools = [let.op for let in program.body if let.name in live]
    return any(
        axes & {space.base(axis) for axis, _ in op.over} for op in pools if isinstance(op, Pool)
    )


def _closure(
    roots: Iterable[Ref], ops: Mapping[Ref, Op], evaluating: bool, keeps: bool
) -> set[Ref]:
    def reads(ref: Ref) -> tuple[Ref, ...]:
        op = ops[ref]
        if evaluating and isinstance(op, Mode):
            return (op.eval if keeps or op.buffer is None else op.train,)
        return (*operands(op), *(index for index in pooling_indices(op) if index in ops))

    return closure(roots, reads)


def pooling_indices(op: Op) -> Iterator[Ref]:
    """The index inputs by which an operation pools."""
    if isinstance(op, (Pool, Count, Near)):
        yield from (index for _, grouping in op.over if (index := index_of(grouping)))
    elif isinstance(op, Repeat):
        for let in op.body:
            yield from pooling_indices(let.op)
