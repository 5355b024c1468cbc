"""What the outputs of a program depend on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Count, Mode, Op, Pool, Program, Ref, Repeat
from metanorm.ir.operands import operands


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
