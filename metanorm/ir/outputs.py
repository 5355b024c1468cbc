"""The dimensions that outputs are returned with."""

from __future__ import annotations

from metanorm.ir.nodes import Program, Ref


def output_dims(program: Program, name: str, ref: Ref) -> tuple[str, ...]:
    """The dimensions of an output, split axes unsplit.

    The first is as large as the first input where the program keeps its shape, and what something
    begins with as large as that. Any other has the axes of its value, as they were declared or
    came in.
    """
    if program.target == "initial":
        return program.initialized.dims
    space, type_ = program.index.space, program.index.types[ref]
    axes = space.ordered(space.base(axis) for axis in type_.axes)
    if program.keeps_shape and name == program.outputs[0][0]:
        first = program.inputs[0].dims
        if {leaf for dim in first for leaf in space.leaves(dim)} >= set(axes):
            return first  # not so where a backward pass reads something smaller first
    written = dict(program.output_dims).get(name, ())
    leaves = tuple(leaf for dim in written for leaf in space.leaves(dim))
    return written if space.ordered(leaves) == axes else space.merged(axes)


def output_axes(program: Program, name: str, ref: Ref) -> tuple[str, ...] | None:
    """The same as axes of values; `None` where the value has others, such as cells."""
    space, type_ = program.index.space, program.index.types[ref]
    leaves = [leaf for dim in output_dims(program, name, ref) for leaf in space.leaves(dim)]
    return tuple(leaves) if space.ordered(leaves) == type_.axes else None
