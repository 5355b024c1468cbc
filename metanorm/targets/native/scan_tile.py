"""The part of the data that a sweep with scans has at hand: its shape, and its memory.

A tile has all positions along the scanned axes, and a strip of the innermost other one.
"""

from __future__ import annotations

from collections.abc import Sequence

from metanorm.ir.nodes import Ref
from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Block
from metanorm.targets.native import cir
from metanorm.targets.native.cir import Apply, Expr, Infix, Name
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.scan_phases import Phase, scan_phases
from metanorm.targets.native.tiling import ONE, ZERO, key_of, loops_of_tile
from metanorm.targets.native.values import AxisPositions

COLUMNS, STRIP_BEGIN, STRIP_END = Name("columns"), Name("strip_begin"), Name("strip_end")


class Tile:
    """The shape of a tile: its loops, outermost first, of which one at most goes over a strip."""

    def __init__(self, context: KernelContext, sweep: Block) -> None:
        self.ctx = context
        self.loops: tuple[AxisGroup, ...] = loops_of_tile(context.nest, sweep)
        scanned = {scan.axis for scan in sweep.scans}
        self.strip = next((g for g in self.loops if scanned.isdisjoint(g)), None)

    def columns(self) -> Expr:
        """How many positions of the strip's axis a tile has."""
        if self.strip is None:
            return ONE
        along: Expr = ONE
        for group in self.loops:
            if group != self.strip:
                along = cir.product(along, self.ctx.volume(group))
        return Apply("strip_of", (along, self.ctx.volume(self.strip)))

    def volume(self) -> Expr:
        """How many elements there are in a tile."""
        size: Expr = ONE if self.strip is None else self.columns()
        for group in self.loops:
            if group != self.strip:
                size = Apply("times", (size, self.ctx.volume(group)))
        return size

    def index(self, at: AxisPositions) -> Expr:
        """Where an element is in an array of the tile."""
        index: Expr = ZERO
        for group in self.loops:
            size, position = self.ctx.volume(group), at[key_of(group)]
            if group == self.strip:
                size, position = COLUMNS, Infix("-", position, STRIP_BEGIN)
            index = position if index == ZERO else Infix("+", Infix("*", index, size), position)
        return index

    def bounds(self, group: AxisGroup) -> tuple[Expr, Expr]:
        """The bounds of a loop over a tile."""
        return (STRIP_BEGIN, STRIP_END) if group == self.strip else (ZERO, self.ctx.volume(group))


def tiled_refs(phases: Sequence[Phase]) -> tuple[Ref, ...]:
    """All values that have arrays in the memory of a tile."""
    return tuple(ref for phase in phases for ref in phase.tiled)


def tile_memory(context: KernelContext) -> Expr:
    """How many numbers a worker needs for the arrays of the largest tile."""
    size: Expr | None = None
    for sweep in context.nest.sweeps:
        if sweep.scans:
            count = cir.Number(len(tiled_refs(scan_phases(context.nest, sweep))))
            room = Apply("times", (count, Tile(context, sweep).volume()))
            size = room if size is None or size == room else Apply("max", (size, room))
    assert size is not None
    return size
