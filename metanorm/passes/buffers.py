"""Give each updated buffer a value with its axes, in its order.

A kernel stores a value in one order of axes. So this pass copies a value that is an input or an
output in another order, or that updates another buffer in another order. It expands a value that
lacks an axis of the buffer.
"""

from __future__ import annotations

from dataclasses import replace

from metanorm.ir.nodes import Buffer, Detach, Expand, Input, Param, Ref
from metanorm.ir.program import Program
from metanorm.passes.builder import Builder


def buffers(program: Program) -> Program:
    """The program in which the new value of each buffer can have the layout of the buffer."""
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    order_by_ref: dict[Ref, tuple[str, ...]] = {
        builder.value_map[let.name]: program.index.axes_of(let.op.name)
        for let in program.body
        if isinstance(let.op, (Input, Param, Buffer))
    }
    for _, ref in program.outputs:
        order_by_ref.setdefault(builder.value_map[ref], program.index.types[ref].axes)
    updates = []
    for update in program.updates:
        axes, ref = program.index.axes_of(update.buffer), builder.value_map[update.value]
        missing = tuple(axis for axis in axes if axis not in builder.types[ref].axes)
        ref = builder.emit(Expand(ref, builder.space.ordered(missing))) if missing else ref
        while order_by_ref.setdefault(ref, axes) != axes:
            ref = builder.emit(Detach(ref))
        updates.append(replace(update, value=ref))
    is_unchanged = all(
        u.value == builder.value_map[old.value] for u, old in zip(updates, program.updates)
    )
    return program if is_unchanged else builder.finish(updates=updates)
