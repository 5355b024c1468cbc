"""Parameters and buffers that begin with a value of the weight: what computes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TypeVar

from metanorm.ir.nodes import (
    Buffer,
    BufferDecl,
    Draw,
    Input,
    InputDecl,
    Let,
    Op,
    Param,
    ParamDecl,
    Program,
    Ref,
)
from metanorm.ir.operands import operands
from metanorm.ir.reachable import indices, reachable
from metanorm.ir.space import Space

Kept = TypeVar("Kept", ParamDecl, BufferDecl)


def with_beginnings(
    program: Program, begins: Mapping[str, Ref], firsts: Mapping[str, Ref]
) -> Program:
    """The program whose declarations hold what computes their first values, given by their names:
    on a weight, and those of the first batch.

    What nothing but these values needs is taken out of the body.
    """
    if not begins and not firsts:
        return program
    on_weight = {name: needed({ref}, program.body) for name, ref in begins.items()}
    on_batch = {name: needed({ref}, program.body) for name, ref in firsts.items()}

    def with_values(decl: Kept) -> Kept:
        own = on_weight.get(decl.name, ()), on_batch.get(decl.name, ())
        return replace(decl, from_weight=own[0], first=own[1])

    params = tuple(with_values(param) for param in program.params)
    buffers = tuple(with_values(buffer) for buffer in program.buffers)
    apart = {let.name for b in (on_weight, on_batch) for lets in b.values() for let in lets}
    others = [let.name for let in program.body if let.name not in apart]
    shared = {let.name for let in needed({*others, *reachable(program)}, program.body)}
    body = tuple(let for let in program.body if let.name in shared)
    return replace(program, params=params, buffers=buffers, body=body)


def beginnings(program: Program) -> dict[str, Program]:
    """For all that begins with a value of the weight or of the first batch, the program that
    computes it.

    It keeps the declaration, which says on which axes the value is wanted, and those of the
    parameters and buffers that it reads, which have begun before. Random numbers that several of
    them read come in as a further input, since a name has one value.
    """
    found: dict[str, Program] = {}
    draws = shared_draws(program)
    for decl in program.kept:
        computed = decl.from_weight or decl.first
        if computed:
            read = {let.op.name for let in computed if isinstance(let.op, (Buffer, Param))}
            own = (decl,)
            body = tuple(
                replace(let, op=Input(draws[let.op].name)) if let.op in draws else let
                for let in computed
            )
            drawn = [let.op.name for let in body if isinstance(let.op, Input)]
            found[decl.name] = replace(
                program,
                target="initial",
                inputs=(*program.inputs, *(d for d in draws.values() if d.name in drawn)),
                params=(
                    *(p for p in program.params if p.name in read),
                    *(d for d in own if isinstance(d, ParamDecl)),
                ),
                buffers=(
                    *(b for b in program.buffers if b.name in read),
                    *(d for d in own if isinstance(d, BufferDecl)),
                ),
                switches=(),
                body=body,
                outputs=((decl.name, body[-1].name),),
                updates=(),
                checks=(),
            )
    return found


def in_turn(program: Program) -> tuple[ParamDecl | BufferDecl, ...]:
    """What takes its value from the first batch, each after those that its value is computed of."""
    waiting = [decl for decl in program.kept if decl.first]
    done: list[ParamDecl | BufferDecl] = []
    while waiting:
        names = {decl.name for decl in waiting}
        free = next(decl for decl in waiting if not names & _read_by(decl))
        waiting.remove(free)
        done.append(free)
    return tuple(done)


def _read_by(decl: ParamDecl | BufferDecl) -> set[str]:
    return {let.op.name for let in decl.first if isinstance(let.op, (Buffer, Param))}


def shared_draws(program: Program) -> dict[Op, InputDecl]:
    """The random numbers that several first values depend on, each with what brings it to them."""
    times: dict[Op, int] = {}
    names: dict[Op, Ref] = {}
    for decl in program.kept:
        for let in decl.from_weight:
            if isinstance(let.op, Draw):
                times[let.op] = times.get(let.op, 0) + 1
                names[let.op] = let.name
    taken = {decl.name for decl in program.declarations} | {a.name for a in program.arguments}
    space = Space(program.axes)
    found: dict[Op, InputDecl] = {}
    for op, count in times.items():
        if isinstance(op, Draw) and count > 1:
            stem = "drawn" if names[op].startswith("%") else names[op]
            name, number = stem, 2
            while name in taken:
                name, number = f"{stem}_{number}", number + 1
            taken.add(name)
            found[op] = InputDecl(name, "tensor", space.merged(op.axes))
    return found


def needed(refs: Iterable[Ref], body: Iterable[Let]) -> tuple[Let, ...]:
    """These bindings and all that they depend on, in order."""
    wanted, found = set(refs), []
    for let in reversed(tuple(body)):
        if let.name in wanted:
            wanted |= {*operands(let.op), *indices(let.op)}
            found.append(let)
    return tuple(reversed(found))
