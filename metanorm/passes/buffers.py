"""A buffer follows a value with its own axes, in its own order.

A value lies in one order in the arrays of a kernel. What comes from outside, what is an output, and
what another buffer follows in another order is copied; what is the same along an axis of the buffer
is repeated along it.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Buffer, Detach, Expand, Input, Param, Program, Ref
from metanorm.passes.builder import Builder


def buffers(program: Program) -> Program:
    """The program in which each buffer follows a value that can lie as it does."""
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    orders: dict[Ref, tuple[str, ...]] = {
        builder.value_map[let.name]: program.index.axes_of(let.op.name)
        for let in program.body
        if isinstance(let.op, (Input, Param, Buffer))
    }
    for _, ref in program.outputs:
        orders.setdefault(builder.value_map[ref], program.index.types[ref].axes)
    updates = []
    for update in program.updates:
        wanted, ref = program.index.axes_of(update.buffer), builder.value_map[update.value]
        lacking = tuple(axis for axis in wanted if axis not in builder.types[ref].axes)
        ref = builder.emit(Expand(ref, builder.space.ordered(lacking))) if lacking else ref
        while orders.setdefault(ref, wanted) != wanted:
            ref = builder.emit(Detach(ref))
        updates.append(replace(update, value=ref))
    same = all(u.value == builder.value_map[old.value] for u, old in zip(updates, program.updates))
    return program if same else builder.finish(updates=updates)
