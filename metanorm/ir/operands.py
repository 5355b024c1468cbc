"""The operands of an operation, and all bindings of a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.nodes import (
    AxisMap,
    Concat,
    Count,
    FromSums,
    Let,
    Lookup,
    Map,
    Mode,
    Near,
    Op,
    Pool,
    Ref,
    Repeat,
)


def every_let(body: Iterable[Let]) -> Iterator[Let]:
    """The bindings of a body, and of the loops in it."""
    for let in body:
        yield let
        if isinstance(let.op, Repeat):
            yield from every_let(let.op.body)


def operands(op: Op) -> tuple[Ref, ...]:
    """The values that an operation reads, in a fixed order; of a `repeat`, the outer ones."""
    match op:
        case Map(_, arguments):
            return arguments
        case Pool(value=value, where=where, weight=weight, about=about):
            return tuple(r for r in (value, where, weight, about) if r is not None)
        case Count(_, where, weight):
            return tuple(r for r in (where, weight) if r is not None)
        case Near(value=value, where=where, weight=weight):
            return tuple(r for r in (value, where, weight) if r is not None)
        case FromSums(_, sums, near):
            return sums if near is None else (*sums, near)
        case AxisMap(value=value, adjoint=adjoint):
            return (value,) if adjoint is None else (value, adjoint)
        case Concat(values):
            return values
        case Lookup(table, _, index):
            return (table,) if isinstance(index, int) else (table, index)
        case Mode(train, evaluated, _):
            return (train, evaluated)
        case Repeat(inside=inside, initial=initial, body=body, results=results):
            local_names = {*inside, *(let.name for let in body)}
            refs = [*initial, *(r for let in body for r in operands(let.op)), *results]
            return tuple(dict.fromkeys(r for r in refs if r not in local_names))
        case _:
            inner = getattr(op, "value", None)
            return (inner,) if isinstance(inner, str) else ()
