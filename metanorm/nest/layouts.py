"""The orders in which the dimensions of the data can lie in memory, and the program for each.

`channels_last` is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Program
from metanorm.passes.columns import columns

AxisGroup = tuple[str, ...]  # parts of a split axis that lie in one piece, or one axis


@dataclass(frozen=True)
class Layout:
    """An order of dimensions in memory, called after the axis along which rows lie.

    That is all of the last dimension where it is `merged`, else the last part of it.
    """

    dims: tuple[str, ...]
    vector_axis: str
    merged: bool = False


def possible_layouts(program: Program) -> tuple[Layout, ...]:
    """As declared, and with the second dimension last: `channels_last` and its relatives.

    Where nothing lies between, the parts of that dimension need not be one: the groups of a
    matrix `[N, C]` are rows of their own.
    """
    dims = program.inputs[0].dims
    layouts = [Layout(dims, dims[-1])]
    if len(dims) > 2:
        last = (dims[0], *dims[2:], dims[1])
        layouts.append(Layout(last, dims[1], merged=True))
        leaves = program.index.space.leaves(dims[1])
        if len(leaves) > 1:
            layouts.append(Layout(last, leaves[-1]))
    return tuple(layouts)


def program_in_layout(
    program: Program, layout: Layout
) -> tuple[Program, tuple[AxisGroup, ...]] | None:
    """The program for data that lies so, and the axes of its loops, outermost first.

    `None` where the parts of a merged dimension cannot be gone through as one.
    """
    groups: list[AxisGroup] = []
    for dim in layout.dims:
        leaves = program.index.space.leaves(dim)
        if dim == layout.dims[-1] and len(leaves) > 1 and layout.merged:
            regrouped = columns(program, leaves)
            if regrouped is None:
                return None
            program = regrouped
            groups.append(leaves)
        else:
            groups += [(leaf,) for leaf in leaves]
    return program, tuple(groups)
