"""Initial values that a program computes: of the weight, or of the first batch.

A parameter or a buffer with such a value has its bindings in its declaration, `from_weight` or
`first`, the value last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from metanorm.ir.nodes import Buffer, Draw, Input, Let, Op, Param, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import BufferDecl, InputDecl, ParamDecl, Program
from metanorm.ir.reachable import pooling_indices, reachable
from metanorm.ir.space import Space

State = TypeVar("State", ParamDecl, BufferDecl)


def with_initializers(
    program: Program, on_weight: Mapping[str, Ref], on_batch: Mapping[str, Ref]
) -> Program:
    """The program whose declarations hold the bindings of their initial values.

    `on_weight` and `on_batch` map names of parameters and buffers to values of the body: initial
    values computed from the weight, and from the first batch. Bindings that serve nothing else
    leave the body.
    """
    if not on_weight and not on_batch:
        return program
    weight_slices = {n: backward_slice({ref}, program.body) for n, ref in on_weight.items()}
    batch_slices = {n: backward_slice({ref}, program.body) for n, ref in on_batch.items()}

    def with_slices(decl: State) -> State:
        weight_slice = weight_slices.get(decl.name, ())
        return replace(decl, from_weight=weight_slice, first=batch_slices.get(decl.name, ()))

    params = tuple(with_slices(param) for param in program.params)
    buffers = tuple(with_slices(buffer) for buffer in program.buffers)
    slices = (*weight_slices.values(), *batch_slices.values())
    moved = {let.name for lets in slices for let in lets}
    roots = {let.name for let in program.body if let.name not in moved} | reachable(program)
    body = backward_slice(roots, program.body)
    return replace(program, params=params, buffers=buffers, body=body)


def initializers(program: Program) -> dict[str, Program]:
    """For each parameter and buffer with computed initial values, the program that computes them.

    It keeps its own declaration, which says on which axes the value is wanted, and those of the
    parameters and buffers that it reads, which have their values before. A draw that several
    initializers share becomes an input, because one name must have one value.
    """
    programs: dict[str, Program] = {}
    shared = shared_draws(program)
    for decl in program.state:
        computed = decl.from_weight or decl.first
        if not computed:
            continue
        read = _state_read_by(computed)
        body = tuple(
            replace(let, op=Input(shared[let.op].name)) if let.op in shared else let
            for let in computed
        )
        input_names = {let.op.name for let in body if isinstance(let.op, Input)}
        params: list[ParamDecl] = [param for param in program.params if param.name in read]
        buffers: list[BufferDecl] = [buffer for buffer in program.buffers if buffer.name in read]
        if isinstance(decl, ParamDecl):
            params.append(decl)
        else:
            buffers.append(decl)
        programs[decl.name] = replace(
            program,
            target="initial",
            inputs=(*program.given_inputs, *(d for d in shared.values() if d.name in input_names)),
            params=tuple(params),
            buffers=tuple(buffers),
            switches=(),
            body=body,
            outputs=((decl.name, body[-1].name),),
            updates=(),
            checks=(),
        )
    return programs


def initialization_order(program: Program) -> tuple[ParamDecl | BufferDecl, ...]:
    """The state that the first batch initializes, each after the state that its value reads."""
    waiting = [decl for decl in program.state if decl.first]
    ordered: list[ParamDecl | BufferDecl] = []
    while waiting:
        names = {decl.name for decl in waiting}
        ready = next(decl for decl in waiting if not names & _state_read_by(decl.first))
        waiting.remove(ready)
        ordered.append(ready)
    return tuple(ordered)


def _state_read_by(body: Iterable[Let]) -> set[str]:
    return {let.op.name for let in body if isinstance(let.op, (Buffer, Param))}


def shared_draws(program: Program) -> dict[Op, InputDecl]:
    """The draws that several initial values read, each with the input that passes it to them."""
    use_counts: dict[Op, int] = {}
    refs: dict[Op, Ref] = {}
    for decl in program.state:
        for let in decl.from_weight:
            if isinstance(let.op, Draw):
                use_counts[let.op] = use_counts.get(let.op, 0) + 1
                refs[let.op] = let.name
    taken = {decl.name for decl in program.declarations} | {a.name for a in program.arguments}
    space = Space(program.axes)
    inputs: dict[Op, InputDecl] = {}
    for op, count in use_counts.items():
        if isinstance(op, Draw) and count > 1:
            stem = "drawn" if refs[op].startswith("%") else refs[op]
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}_{number}", number + 1
            taken.add(name)
            inputs[op] = InputDecl(name, "tensor", space.unsplit(op.axes))
    return inputs


def backward_slice(refs: Iterable[Ref], body: Iterable[Let]) -> tuple[Let, ...]:
    """The bindings that compute `refs`: these and all that they depend on, in order."""
    needed, lets = set(refs), []
    for let in reversed(tuple(body)):
        if let.name in needed:
            needed |= {*operands(let.op), *pooling_indices(let.op)}
            lets.append(let)
    return tuple(reversed(lets))
