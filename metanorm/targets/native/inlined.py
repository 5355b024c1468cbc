"""Narrow values that never become arrays: they are written out wherever they are read."""

from __future__ import annotations

from collections.abc import Collection

from metanorm.ir.nodes import Detach, Expand, Link, Map, Pool, Program, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.nest.nest import CHEAP

# The same numbers, found at another place or repeated.
SAME = (Rename, Expand, Detach)


def inlined(program: Program, context: Collection[str], kept: Collection[Ref]) -> set[Ref]:
    """The narrow values of a program that are no arrays; those that are `kept` have to be.

    A product of values on different axes has one element for each pair of theirs. Where only pools
    read it, it exists for one element at a time.
    """
    own = {let.name: set(let.type.axes) for let in program.body}  # axes that it varies along
    crossing: set[Ref] = set()
    found: set[Ref] = set()
    for let in program.body:
        if isinstance(let.op, Expand):
            own[let.name] = own[let.op.value]
        if let.name in kept or set(context) <= set(let.type.axes):
            continue
        if isinstance(let.op, Link):  # which is one, wherever it is read
            crossing.add(let.name)
        elif isinstance(let.op, SAME):
            found.add(let.name)
        elif isinstance(let.op, Map) and let.op.function in CHEAP:
            arguments = let.op.arguments
            larger = all(own[a] < own[let.name] for a in arguments)
            if larger or any(a in crossing for a in arguments):
                crossing.add(let.name)
    found |= crossing
    elsewhere: set[Ref] = set()  # what is read outside of pools
    for let in reversed(program.body):
        if let.name in crossing and let.name in elsewhere:
            found.discard(let.name)
        if not isinstance(let.op, Pool) and (let.name not in found or let.name in elsewhere):
            elsewhere |= set(operands(let.op))
    return found
