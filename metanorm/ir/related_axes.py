"""The axes that a program has something on, and those that have to do with them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from metanorm.ir.nodes import Axis
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program
from metanorm.ir.scalar import SizeOf, leaves


def axes_with_values(program: Program) -> set[str]:
    """The axes of declarations and values. An entry has others too: those of what its constructor
    asks for."""
    used = {dim for decl in program.declarations for dim in decl.dims}
    used |= {axis for let in every_let(program.body) for axis in let.type.axes}
    return with_related(used, program.axes)


def without_further_axes(program: Program) -> Program:
    """The program with those axes alone that it has something on."""
    kept = axes_with_values(program)
    return replace(program, axes=tuple(axis for axis in program.axes if axis.name in kept))


def with_related(names: Iterable[str], axes: Sequence[Axis]) -> set[str]:
    """Axes with all that their lengths follow from, and with the parts that they are split into."""
    by_name = {axis.name: axis for axis in axes}
    related: set[str] = set()
    waiting = list(names)
    while waiting:
        axis = by_name[waiting.pop()]
        if axis.name in related:
            continue
        related.add(axis.name)
        sizes = (axis.size, axis.piece_of[1] if axis.piece_of else None)
        leaves_read = (leaf for size in sizes if size is not None for leaf in leaves(size))
        waiting += (leaf.axis for leaf in leaves_read if isinstance(leaf, SizeOf))
        waiting += axis.parts
        waiting += (other.name for other in axes if axis.name in other.parts)
        waiting += [axis.piece_of[0]] if axis.piece_of else []
        waiting += [axis.cells_of[0]] if axis.cells_of else []
    return related
