"""Repeat values of groups that are returned for each position, which no kernel does by itself.

Groups are named by an index. Blocks have been made axes of their own long before.
"""

from __future__ import annotations

from metanorm.ir.nodes import Expand
from metanorm.ir.outputs import output_axes, output_dims
from metanorm.ir.program import Program
from metanorm.ir.space import Space
from metanorm.passes.builder import Builder


def spread(program: Program) -> Program:
    """The program with every output on the axes that it is returned on."""
    if all(output_axes(program, name, ref) is not None for name, ref in program.outputs):
        return program
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    outputs = []
    for name, ref in program.outputs:
        value = builder.value_map[ref]
        if output_axes(program, name, ref) is None:
            dims = output_dims(program, name, ref)
            value = builder.emit(Expand(value, _leaves(dims, builder.space)))
        outputs.append((name, value))
    return builder.finish(outputs)


def _leaves(dims: tuple[str, ...], space: Space) -> tuple[str, ...]:
    return space.ordered(leaf for dim in dims for leaf in space.leaves(dim))
