"""Rename values in operations and programs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from metanorm.ir.nodes import (
    AxisMap,
    Cast,
    Concat,
    Count,
    Detach,
    Exchange,
    Expand,
    FromSums,
    Lookup,
    Map,
    Mode,
    Near,
    Op,
    Piece,
    Pool,
    Recurrence,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
)
from metanorm.ir.program import Program


def role_of(ref: Ref) -> str:
    """The role of a nameless value: `between` for `%between.7`, nothing for `%7`."""
    word = ref.lstrip("%").split(".")[0]
    return "" if word.isdigit() or not ref.startswith("%") else word


def rename_bindings(program: Program, names: Mapping[Ref, Ref]) -> Program:
    """The program with bindings renamed. The new names must be free."""
    if not names:
        return program
    body = tuple(
        replace(let, name=names.get(let.name, let.name), op=map_operands(let.op, names))
        for let in program.body
    )
    outputs = tuple((name, names.get(ref, ref)) for name, ref in program.outputs)
    updates = tuple(
        replace(
            u,
            value=names.get(u.value, u.value),
            elements=u.elements and names.get(u.elements, u.elements),
        )
        for u in program.updates
    )
    return replace(program, body=body, outputs=outputs, updates=updates)


def numbered(program: Program) -> Program:
    """The program with its nameless bindings numbered from one, so that programs which differ in
    these numbers alone are equal."""
    nameless = [let.name for let in program.body if let.name.startswith("%")]
    names = {
        ref: f"%{role}.{number}" if (role := role_of(ref)) else f"%{number}"
        for number, ref in enumerate(nameless, 1)
    }
    return rename_bindings(program, names)


def map_operands(op: Op, names: Mapping[Ref, Ref]) -> Op:
    """The operation with its operands renamed; those that `names` lacks stay."""
    new: Callable[[Ref], Ref] = lambda ref: names.get(ref, ref)  # noqa: E731
    match op:
        case Map(function, arguments):
            return Map(function, tuple(new(a) for a in arguments))
        case Pool():
            return replace(
                op,
                value=new(op.value),
                where=op.where and new(op.where),
                weight=op.weight and new(op.weight),
                about=op.about and new(op.about),
            )
        case Count():
            where, weight = op.where and new(op.where), op.weight and new(op.weight)
            return replace(op, where=where, weight=weight)
        case Lookup():
            index = op.index if isinstance(op.index, int) else new(op.index)
            return replace(op, table=new(op.table), index=index)
        case Near():
            where, weight = op.where and new(op.where), op.weight and new(op.weight)
            return replace(op, value=new(op.value), where=where, weight=weight)
        case FromSums():
            return replace(op, sums=tuple(map(new, op.sums)), near=op.near and new(op.near))
        case ToSum():
            return replace(op, parts=tuple(map(new, op.parts)), near=op.near and new(op.near))
        case Concat() | Swept():
            return replace(op, values=tuple(map(new, op.values)))
        case Exchange():
            return replace(op, value=new(op.value), ties=op.ties and new(op.ties))
        case Rename() | Piece() | Expand() | Detach() | Cast():
            return replace(op, value=new(op.value))
        case Mode():
            return replace(op, train=new(op.train), eval=new(op.eval))
        case Repeat():
            inner = {k: v for k, v in names.items() if k not in op.inside}
            body = tuple(replace(let, op=map_operands(let.op, inner)) for let in op.body)
            return replace(
                op,
                initial=tuple(new(r) for r in op.initial),
                body=body,
                results=tuple(inner.get(r, r) for r in op.results),
            )
        case Recurrence():
            value, decay, start = new(op.value), new(op.decay), new(op.start)
            return replace(op, value=value, decay=decay, start=start)
        case AxisMap():
            return replace(op, value=new(op.value), adjoint=op.adjoint and new(op.adjoint))
        case _:
            return op
