"""The operands of an operation, and all bindings of a program."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import (
    AxisMap,
    Buffer,
    Cast,
    Concat,
    Count,
    Detach,
    Draw,
    Exchange,
    Expand,
    FromSums,
    Input,
    Inside,
    Let,
    Link,
    Lookup,
    Map,
    Mode,
    Near,
    Number,
    Op,
    Param,
    Piece,
    Pool,
    Position,
    Recurrence,
    Ref,
    Rename,
    Repeat,
    Swept,
    ToSum,
)
from metanorm.ir.space import Space


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
        case ToSum(_, parts, near):
            return parts if near is None else (*parts, near)
        case Exchange(value=value, ties=ties):
            return (value,) if ties is None else (value, ties)
        case AxisMap(value=value, adjoint=adjoint):
            return (value,) if adjoint is None else (value, adjoint)
        case Recurrence(value, decay, start):
            return (value, decay, start)
        case Concat(values) | Swept(values=values):
            return values
        case Lookup(table, _, index):
            return (table,) if isinstance(index, int) else (table, index)
        case Mode(train, evaluated, _):
            return (train, evaluated)
        case Repeat(inside=inside, initial=initial, body=body, results=results):
            local_names = {*inside, *(let.name for let in body)}
            refs = [*initial, *(r for let in body for r in operands(let.op)), *results]
            return tuple(dict.fromkeys(r for r in refs if r not in local_names))
        case Piece(value=value) | Rename(value=value) | Expand(value=value):
            return (value,)
        case Detach(value=value) | Cast(value=value):
            return (value,)
        case Number() | Input() | Param() | Buffer() | Position() | Inside() | Link() | Draw():
            return ()
        case _:
            raise TypeError(f"no operands of the operation {type(op).__name__}")


def cut_axes(op: Piece | Concat, space: Space) -> set[str]:
    """The axes along which the operands of a piece of an axis, or of a whole one, are read."""
    if isinstance(op, Concat):
        return set(op.pieces)
    piece_of = space[op.piece].piece_of
    return set() if piece_of is None else {piece_of[0]}


def axes_read_elsewhere(op: Op) -> tuple[str, ...]:
    """The axes along which an operation reads values at other positions than that of its result.

    A pool by an index stays within the group of a position, and is not among them.
    """
    match op:
        case Pool(over=over):
            return tuple(axis for axis, grouping in over if not isinstance(grouping, ByIndex))
        case AxisMap(axis=axis) | Recurrence(axis=axis) | Lookup(axis=axis) | Rename(old=axis):
            return (axis,)
    return ()
