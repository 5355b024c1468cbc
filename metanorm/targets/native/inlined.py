"""Find the narrow values that get no array: their expression is printed wherever they are read."""

from __future__ import annotations

from collections.abc import Collection

from metanorm.ir.nodes import Detach, Expand, Link, Lookup, Map, Op, Pool, Ref, Rename
from metanorm.ir.operands import operands
from metanorm.ir.ops import CHEAP_FUNCTIONS
from metanorm.ir.program import Program


def reads_elsewhere(op: Op) -> bool:
    """Whether an operation only reads its operand at another position than that of its result."""
    return isinstance(op, Rename) or (isinstance(op, Lookup) and isinstance(op.index, int))


def inlined(program: Program, data_axes: Collection[str], array_refs: Collection[Ref]) -> set[Ref]:
    """The narrow values of a program that get no array. `array_refs` must have one.

    A product of values on different axes has an element for each pair of theirs. If only pools read
    the product, they compute one element at a time.
    """
    varying_axes = {
        let.name: set(let.type.axes) for let in program.body
    }  # axes that it varies along
    crossing: set[Ref] = set()
    inlined_refs: set[Ref] = set()
    for let in program.body:
        if isinstance(let.op, Expand):
            varying_axes[let.name] = varying_axes[let.op.value]
        if let.name in array_refs or set(data_axes) <= set(let.type.axes):
            continue
        if isinstance(let.op, Link):  # its value is one wherever a loop reads it
            crossing.add(let.name)
        elif isinstance(let.op, (Expand, Detach)) or reads_elsewhere(let.op):
            inlined_refs.add(let.name)
        elif isinstance(let.op, Map) and let.op.function in CHEAP_FUNCTIONS:
            arguments = let.op.arguments
            has_more_axes = all(varying_axes[a] < varying_axes[let.name] for a in arguments)
            if has_more_axes or any(a in crossing for a in arguments):
                crossing.add(let.name)
    inlined_refs |= crossing
    read_outside_pools: set[Ref] = set()  # what is read outside of pools
    for let in reversed(program.body):
        if let.name in crossing and let.name in read_outside_pools:
            inlined_refs.discard(let.name)
        if not isinstance(let.op, Pool) and (
            let.name not in inlined_refs or let.name in read_outside_pools
        ):
            read_outside_pools |= set(operands(let.op))
    return inlined_refs
