"""Print a sweep with scans as C: tile by tile, phase by phase.

A tile has all positions along the scanned axes, and a strip of the innermost other one. Each phase
goes through its rows and stores what scans read; the last one accumulates and writes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from metanorm.ir.nodes import Recurrence, Ref
from metanorm.nest.layouts import AxisGroup
from metanorm.nest.nest import Block
from metanorm.plan.sweeps import Reduction
from metanorm.targets.native import cir
from metanorm.targets.native.cir import (
    Apply,
    Assign,
    Declare,
    Element,
    Expr,
    For,
    Infix,
    Name,
    Prefix,
    Stmt,
)
from metanorm.targets.native.context import KernelContext
from metanorm.targets.native.elements import Elements
from metanorm.targets.native.members import WORKER, shared
from metanorm.targets.native.narrow import NarrowPrinter
from metanorm.targets.native.recurrence import recurrence
from metanorm.targets.native.scan import SIDE_BY_SIDE, Lines, ScanPrinter
from metanorm.targets.native.scan_phases import Phase, scan_phases
from metanorm.targets.native.scan_tile import COLUMNS, STRIP_BEGIN, STRIP_END, Tile, tiled_refs
from metanorm.targets.native.sweep import SweepPrinter
from metanorm.targets.native.tiling import ELEMENT, ONE, ZERO, Tiling, key_of, row_loop
from metanorm.targets.native.values import AxisPositions

TILES = shared("tiles")


class TileTiling(Tiling):
    """How a phase iterates over a tile, and the loops around all phases."""

    def __init__(self, context: KernelContext, reductions: Sequence[Reduction], tile: Tile) -> None:
        super().__init__(context, reductions, tile.loops)
        self.tile = tile

    def bounds(self, group: AxisGroup) -> tuple[Expr, Expr]:
        """The range of a loop: within a tile, or that of the worker outside."""
        return self.tile.bounds(group) if group in self.loops else super().bounds(group)

    def around(self, body: list[Stmt]) -> list[Stmt]:
        """The loops over all tiles of a worker."""
        strip = self.tile.strip
        if strip is not None:
            low, high = super().bounds(strip)
            end = Apply("min", (Infix("+", STRIP_BEGIN, COLUMNS), high))
            body = [Declare("const int64_t", STRIP_END.text, end), *body]
            body = [For(STRIP_BEGIN.text, low, high, tuple(body), step=COLUMNS)]
        return self.over([group for group in self.ctx.loops if group not in self.loops], body)


class ScanSweepPrinter(SweepPrinter):
    """Prints one sweep in which scans go along axes of the data."""

    def __init__(self, context: KernelContext, narrow: NarrowPrinter, sweep: Block) -> None:
        super().__init__(context, narrow, sweep)
        self.tile = Tile(context, sweep)
        self.phases = scan_phases(context.nest, sweep)
        self.arrays = tiled_refs(self.phases)
        element_printers: dict[Ref, Callable[[AxisPositions], Expr]] = {
            ref: partial(self._element, Name(f"{context.name(ref)}_tile")) for ref in self.arrays
        }
        self.values = narrow.values.beside(element_printers)
        self.tiling = self._tiling = TileTiling(
            context, [reduction for _, reduction in self.numbered_reductions], self.tile
        )
        self.elements = Elements(self.tiling, self.values, sweep, self.arrays)

    def _element(self, array: Expr, at: AxisPositions) -> Expr:
        return Element(array, self.tile.index(at))

    def _loops(self) -> list[Stmt]:
        columns: list[Stmt] = [Declare("const int64_t", COLUMNS.text, self.tile.columns())]
        declared = columns if self.tile.strip is not None else []
        declared += self._array_declarations()
        body: list[Stmt] = []
        tiled: list[Ref] = []
        for phase in self.phases:
            body += self._phase(phase, tiled)
            tiled += phase.tiled
        return [*declared, *self._tiling.around([*body, *super()._loops()])]

    def _array_declarations(self) -> list[Stmt]:
        """The arrays of a tile, one behind the other in the memory of the worker."""
        size: Expr = ONE
        for group in self.tile.loops:
            length = COLUMNS if group == self.tile.strip else self.ctx.volume(group)
            size = cir.product(size, length)
        declarations: list[Stmt] = [Declare("const int64_t", "tile_room", size)]
        array: Expr = Infix(
            "+", cir.dot(TILES, "memory"), Infix("*", WORKER, cir.dot(TILES, "size"))
        )
        for ref in self.arrays:
            name = f"{self.ctx.name(ref)}_tile"
            declarations.append(Declare("real *", name, array))
            array = Infix("+", Name(name), Name("tile_room"))
        return declarations

    def _phase(self, phase: Phase, tiled: Sequence[Ref]) -> list[Stmt]:
        """What a phase stores, row by row, and then its scans."""
        statements = self._store(phase, tiled) if phase.stored else []
        for results in phase.scans:
            statements += self._scan(results)
        return statements

    def _store(self, phase: Phase, tiled: Sequence[Ref]) -> list[Stmt]:
        tiling = TileTiling(self.ctx, (), self.tile)
        elements = Elements(tiling, self.values, self.sweep, tiled)
        reading, inner = elements.reads_and_declarations(set(phase.stored))
        pointers: list[Stmt] = []
        for ref in phase.stored:
            pointer = Name(f"{self.ctx.name(ref)}_tile_row")
            first = Element(Name(f"{self.ctx.name(ref)}_tile"), self.tile.index(tiling.at))
            pointers.append(Declare("real *", pointer.text, Prefix("&", first)))
            inner.append(Assign(Element(pointer, ELEMENT), "=", elements.element_value(ref)))
        return tiling.outer_loops([*reading, *pointers, row_loop(inner)])

    def _scan(self, results: Sequence[Ref]) -> list[Stmt]:
        """One scan of a tile, with lines along the innermost other loop side by side."""
        axis = self.sweep_axis(results[0])
        *outer, lane = [group for group in self.tile.loops if group != (axis,)] or [()]
        at = {key_of(g): Name(self.ctx.variable(g)) for g in self.ctx.loops}
        positions: dict[str, Expr] = {**at}
        bounds: tuple[Expr, Expr] = (ZERO, ONE)
        if lane:
            positions[key_of(lane)] = SIDE_BY_SIDE
            bounds = self.tile.bounds(lane)
        lines = Lines(positions, *bounds, down=self.tile.loops[-1] != (axis,))
        let = self.ctx.program.index.lets[results[0]]
        if isinstance(let.op, Recurrence):
            body = recurrence(self.values, let, lines, WORKER)
        else:
            body = ScanPrinter(self.values, results, lines).statements(WORKER)
        for group in reversed(outer):
            body = [For(self.ctx.variable(group), *self.tile.bounds(group), tuple(body))]
        return body

    def sweep_axis(self, ref: Ref) -> str:
        """The axis of a scan."""
        return next(scan.axis for scan in self.sweep.scans if scan.let.name == ref)
