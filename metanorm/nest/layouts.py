"""The memory layouts that kernels are compiled for, and the program of a norm for each layout.

This module decides what `channels_last` means for kernels.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.program import Program
from metanorm.passes.columns import columns

AxisGroup = tuple[str, ...]  # parts of a split axis that lie in one piece, or one axis


@dataclass(frozen=True)
class Layout:
    """An order of dimensions in memory, outermost first.

    `vector_axis` names the layout: memory is contiguous along it. It is the whole last dimension if
    that is `merged`, else the last part of it.
    """

    dims: tuple[str, ...]
    vector_axis: str
    merged: bool = False


def possible_layouts(program: Program) -> tuple[Layout, ...]:
    """The layouts of a program: dimensions as declared, and with the second one last, as
    `channels_last` has them.

    If the second dimension is split, a further layout keeps its parts apart: the channel groups of
    a matrix `[N, C]` then are rows of their own.
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
    """The program for data in this layout, and the axes of its loops, outermost first.

    `None` if one loop cannot cover the parts of the merged dimension.
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
