"""The dimensions and dtypes of outputs as a module returns them."""

from __future__ import annotations

from metanorm.ir.nodes import Dtype, Ref
from metanorm.ir.program import Program

FLOAT64 = Dtype("float64", like=False)


def output_dims(program: Program, name: str, ref: Ref) -> tuple[str, ...]:
    """The dimensions of an output, with split axes joined.

    The first output has the shape of the first input if the program keeps it, and an initial value
    has the dimensions of its declaration, a stated gradient those of its input. Any other output
    has the axes of its value, in the order that the spec or the inputs give, and whole axes in the
    place of cells, unless the spec says that it has one row for each cell.
    """
    if program.target == "initial":
        return program.initialized.dims
    if program.target == "backward":
        return program.index.inputs[name].dims
    space, type_ = program.index.space, program.index.types[ref]
    axes = space.ordered(space.base(axis) for axis in type_.axes)
    if program.keeps_shape and name == program.outputs[0][0]:
        input_dims = program.inputs[0].dims
        if {leaf for dim in input_dims for leaf in space.leaves(dim)} >= set(axes):
            return input_dims  # a backward program may read a smaller input first
    declared_dims = dict(program.output_dims).get(name, ())
    leaves = space.ordered(leaf for dim in declared_dims for leaf in space.leaves(dim))
    return declared_dims if leaves in (axes, type_.axes) else space.unsplit(axes)


def output_axes(program: Program, name: str, ref: Ref) -> tuple[str, ...] | None:
    """The same as axes of values; `None` if the value has other axes, such as cells."""
    space, type_ = program.index.space, program.index.types[ref]
    leaves = [leaf for dim in output_dims(program, name, ref) for leaf in space.leaves(dim)]
    return tuple(leaves) if space.ordered(leaves) == type_.axes else None
