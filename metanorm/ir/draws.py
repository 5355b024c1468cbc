"""Random numbers of calls: what a module draws in training becomes an input of its program.

Kernels, the oracle and every pass then read it as any other input, and functions take it as an
argument, so that one call has the same numbers wherever it is computed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from metanorm.ir.nodes import Draw, Input, Kind, Lookup, Ref
from metanorm.ir.operands import every_let
from metanorm.ir.program import InputDecl, InputSort, Program
from metanorm.ir.space import Space

SORTS: Mapping[Kind, InputSort] = {"real": "tensor", "bool": "mask", "int": "index"}


def with_drawn_inputs(program: Program) -> Program:
    """The program with an input in the place of each draw of its body."""
    declared = _drawn_inputs(program)
    if not declared:
        return program
    body = tuple(
        replace(let, op=Input(declared[let.name].name)) if let.name in declared else let
        for let in program.body
    )
    return replace(program, inputs=(*program.inputs, *declared.values()), body=body)


def _drawn_inputs(program: Program) -> Mapping[Ref, InputDecl]:
    """The input that stands for each draw, by the binding of the draw, which names it."""
    declared_names = {d.name for d in program.declarations} | {a.name for a in program.arguments}
    taken = declared_names | {let.name for let in program.body}
    space = Space(program.axes)
    declared: dict[Ref, InputDecl] = {}
    choosing = {let.op.index for let in every_let(program.body) if isinstance(let.op, Lookup)}
    for let in program.body:
        if not isinstance(let.op, Draw):
            continue
        named = let.name.isidentifier() and let.name not in declared_names
        name = let.name if named else _free_name(taken)
        taken.add(name)
        dims, sort = space.unsplit(let.op.axes), SORTS[let.type.kind]
        table = let.op.table if let.name in choosing else None
        if sort == "index" and table is None:
            sort = "whole"
        declared[let.name] = InputDecl(
            name,
            sort,
            dims,
            table=table,
            required=False,
            drawn=replace(let.op, axes=(), number=0, table=None),  # which are those of the input
        )
    return declared


def _free_name(taken: set[str]) -> str:
    name, number = "drawn", 2
    while name in taken:
        name, number = f"drawn_{number}", number + 1
    return name
