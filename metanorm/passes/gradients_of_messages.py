"""Of which tensors each message has a gradient.

Torch decides for each value whether it has one. What a kernel returns has a gradient where any of
its inputs has, also a statistic of what is detached. A process that runs on torch, such as one
without samples, would then send no message back to those with kernels that wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from metanorm.ir.index import closure
from metanorm.ir.nodes import Count, Detach, Exchange, Input, Near, Op, Param, Pool, Ref, Swept
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.passes.sweep_programs import LocalSweep


def with_gradients_of(program: Program, between: Program, sweeps: Sequence[LocalSweep]) -> Program:
    """The program between sweeps, with what its messages have gradients of.

    Nothing is said where each has a gradient of all that the sweeps before it read.
    """
    floating = {decl.name for decl in program.inputs if decl.sort == "tensor"}
    ops, ops_between = program.index.ops, between.index.ops

    def leaves(ref: Ref, ops: Mapping[Ref, Op], reads: Callable[[Op], set[Ref]]) -> set[str]:
        names: set[str] = set()
        for read in closure([ref], lambda r: reads(ops[r])):
            match ops[read]:
                case Input(name) | Param(name):
                    names.add(name)
                case Swept() as swept:
                    names |= read_by(swept)
        return {name for name in names if name in floating or name in program.index.params}

    def read_by(op: Swept) -> set[str]:
        sweep = sweeps[op.sweep - 1]
        declared = [decl.name for decl in sweep.program.inputs]
        declared += [decl.name for decl in sweep.program.params]
        return {*declared} - {*sweep.narrow_inputs}

    def reads_between(op: Op) -> set[Ref]:
        if isinstance(op, Swept):
            return {*sweeps[op.sweep - 1].narrow_inputs.values()}
        return _differentiated(op)

    wanted, returned = {}, {}
    for let in between.body:
        if isinstance(let.op, Exchange):
            original = ops[let.name]
            assert isinstance(original, Exchange)
            wanted[let.name] = leaves(original.value, ops, _differentiated)
            returned[let.name] = leaves(let.op.value, ops_between, reads_between)
    if wanted == returned:
        return between
    order = [*(decl.name for decl in program.inputs), *(decl.name for decl in program.params)]

    def stated(ref: Ref, op: Op) -> Op:
        if not isinstance(op, Exchange):
            return op
        return replace(op, gradient_of=tuple(name for name in order if name in wanted[ref]))

    body = tuple(replace(let, op=stated(let.name, let.op)) for let in between.body)
    return replace(between, body=body)


def _differentiated(op: Op) -> set[Ref]:
    """The operands of which an operation has a gradient."""
    match op:
        case Detach() | Near() | Pool(statistic="ties"):
            return set()
        case Count(weight=weight):
            return {weight} if weight else set()
        case Pool(value=value, weight=weight):
            return {value, *([weight] if weight else [])}
        case _:
            return {*operands(op)}
