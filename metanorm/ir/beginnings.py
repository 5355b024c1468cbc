"""Parameters that begin with a value of the weight: what computes it, apart from the norm."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from metanorm.ir.nodes import Let, Program, Ref
from metanorm.ir.operands import operands
from metanorm.ir.reachable import indices, reachable


def with_beginnings(program: Program, begins: Mapping[str, Ref]) -> Program:
    """The program whose parameters hold what computes their first values, given by their names.

    What nothing but these values needs is taken out of the body.
    """
    if not begins:
        return program
    bindings = {name: needed({ref}, program.body) for name, ref in begins.items()}
    params = tuple(replace(p, from_weight=bindings.get(p.name, ())) for p in program.params)
    apart = {let.name for lets in bindings.values() for let in lets}
    others = [let.name for let in program.body if let.name not in apart]
    shared = {let.name for let in needed({*others, *reachable(program)}, program.body)}
    body = tuple(let for let in program.body if let.name in shared)
    return replace(program, params=params, body=body)


def beginnings(program: Program) -> dict[str, Program]:
    """For each parameter that begins with a value of the weight, the program that computes it.

    It keeps the declaration of the parameter, which says on which axes the value is wanted.
    """
    found: dict[str, Program] = {}
    for param in program.params:
        if param.from_weight:
            found[param.name] = replace(
                program,
                target="initial",
                params=(param,),
                buffers=(),
                switches=(),
                body=param.from_weight,
                outputs=((param.name, param.from_weight[-1].name),),
                updates=(),
                checks=(),
            )
    return found


def needed(refs: Iterable[Ref], body: Iterable[Let]) -> tuple[Let, ...]:
    """These bindings and all that they depend on, in order."""
    wanted, found = set(refs), []
    for let in reversed(tuple(body)):
        if let.name in wanted:
            wanted |= {*operands(let.op), *indices(let.op)}
            found.append(let)
    return tuple(reversed(found))
