"""Rewrite the first and the last position of an axis as sums in which all others are zero.

Loops over the data cannot read it elsewhere, but they can sum where a position is the one that is
asked for. Every axis of the first input has a first and a last position, since a call without
elements reaches no kernel.
"""

from __future__ import annotations

from metanorm.ir.aggregation import Ones
from metanorm.ir.nodes import Lookup, Pool, Position
from metanorm.ir.program import Program
from metanorm.ir.rename import map_operands
from metanorm.ir.scalar import Const, SizeOf, apply
from metanorm.passes.builder import Builder


def positions(program: Program) -> Program:
    """The program without positions of axes whose length a call decides."""
    if not any(is_end(let.op, program) for let in program.body):
        return program
    builder = Builder(program)
    for let in program.body:
        op = map_operands(let.op, builder.value_map)
        builder.span = let.span
        if not isinstance(op, Lookup) or not is_end(op, program):
            builder.copy(let, op)
            continue
        last = apply("sub", SizeOf(op.axis), Const(1.0))
        place = builder.number(last if op.index == -1 else Const(0.0))
        is_there = builder.map("eq", builder.emit(Position(op.axis)), place)
        # No mask of a pool, whose gradient would heed that what is left out may be NaN.
        alone = builder.map("where", is_there, op.table, builder.number(0))
        builder.substitute(let, builder.emit(Pool("sum", alone, ((op.axis, Ones()),))))
    return builder.finish()


def is_end(op: object, program: Program) -> bool:
    """Whether an operation is the first or the last position of an axis of the first input, whose
    length a call decides."""
    if not isinstance(op, Lookup) or op.index not in (0, -1):
        return False
    space, dims = program.index.space, program.inputs[0].dims
    return op.axis in dims and not isinstance(space[op.axis].size, Const)
