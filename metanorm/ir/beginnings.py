"""Parameters and buffers that begin with a value of the weight: what computes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from metanorm.ir.nodes import (
    Buffer,
    BufferDecl,
    Draw,
    Input,
    InputDecl,
    Let,
    Op,
    ParamDecl,
    Program,
    Ref,
)
from metanorm.ir.operands import operands
from metanorm.ir.reachable import indices, reachable
from metanorm.ir.space import Space


def with_beginnings(program: Program, begins: Mapping[str, Ref]) -> Program:
    """The program whose declarations hold what computes their first values, given by their names.

    What nothing but these values needs is taken out of the body.
    """
    if not begins:
        return program
    bindings = {name: needed({ref}, program.body) for name, ref in begins.items()}
    params = tuple(replace(p, from_weight=bindings.get(p.name, ())) for p in program.params)
    buffers = tuple(replace(b, from_weight=bindings.get(b.name, ())) for b in program.buffers)
    apart = {let.name for lets in bindings.values() for let in lets}
    others = [let.name for let in program.body if let.name not in apart]
    shared = {let.name for let in needed({*others, *reachable(program)}, program.body)}
    body = tuple(let for let in program.body if let.name in shared)
    return replace(program, params=params, buffers=buffers, body=body)


def beginnings(program: Program) -> dict[str, Program]:
    """For all that begins with a value of the weight, the program that computes it.

    It keeps the declaration, which says on which axes the value is wanted, and those of the
    buffers that it reads, which have begun before. Random numbers that several of them read come
    in as a further input, since a name has one value.
    """
    found: dict[str, Program] = {}
    draws = shared_draws(program)
    for decl in program.kept:
        if decl.from_weight:
            read = {let.op.name for let in decl.from_weight if isinstance(let.op, Buffer)}
            own = (decl,)
            body = tuple(
                replace(let, op=Input(draws[let.op].name)) if let.op in draws else let
                for let in decl.from_weight
            )
            drawn = [let.op.name for let in body if isinstance(let.op, Input)]
            found[decl.name] = replace(
                program,
                target="initial",
                inputs=(*program.inputs, *(d for d in draws.values() if d.name in drawn)),
                params=tuple(d for d in own if isinstance(d, ParamDecl)),
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
