"""Kernels that look at the data: one sweep in tiles, or all sweeps of whole islands."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from metanorm.ir.nodes import Let, Pool, Ref
from metanorm.nest.layouts import Group
from metanorm.nest.nest import Block
from metanorm.targets.python.pyir import Comment, If
from metanorm.targets.triton.between import IslandScope
from metanorm.targets.triton.context import Arguments, KernelContext
from metanorm.targets.triton.kernel import function_of, what
from metanorm.targets.triton.outcomes import Outcomes
from metanorm.targets.triton.places import Places
from metanorm.targets.triton.scope import COLUMN, ROW, Scope
from metanorm.targets.triton.shapes import Shape
from metanorm.targets.triton.statistics import Statistics
from metanorm.targets.triton.steps import Keys, TileStep
from metanorm.targets.triton.terms import is_given


class TilePrinter:
    """Prints one kernel. `later` are the narrow values that something else reads afterwards;
    `island` where programs have whole islands. Raises `NotInTile`."""

    def __init__(
        self, context: KernelContext, shape: Shape, sweeps: Sequence[Block], later: Collection[Ref],
        island: bool,
    ) -> None:  # fmt: skip
        self.f, self.shape, self.sweeps = context, shape, sweeps
        self.arguments = arguments = Arguments()
        self.s = (
            IslandScope(context, arguments, shape, sweeps) if island else Scope(context, arguments)
        )
        self.places = Places(self.s, shape)
        self.outcomes = Outcomes(self.s, self.places, later, island)
        self.statistics = Statistics(self.s, self.places, self.outcomes)
        for number, sweep in enumerate(sweeps, 1):
            if len(sweeps) > 1:
                self.s.body.append(Comment(what(context, sweep)))
            if isinstance(self.s, IslandScope):
                self.s.again = frozenset(name for own in sweeps[number:] for name in own.reads)
            self._sweep(sweep)
        for ref in self.f.lets:
            if ref in later and ref not in self.f.measured:
                self.outcomes.stored(ref)
        self.keeps = self._kept()
        while self.places.loops:
            self._leave()

    def step(self, name: str, doc: str) -> TileStep:
        """The kernel, with what a call has to bring."""
        shape, outcomes = self.shape, self.outcomes
        meta = [*(["ROWS"] if shape.rows else []), "BLOCK", *(["LANES"] if shape.cell else [])]
        cell = f"size {'*'.join(shape.cell)}"  # how loads can be put together depends on it
        writes = tuple(output for sweep in self.sweeps for output, _ in sweep.writes)
        return TileStep(
            function_of(name, doc, self.arguments, meta, self.s.body, {cell}),
            (*self.arguments.keys, "REAL", "INDEX", *meta),
            _sizes(shape.outer),
            _sizes(shape.rows),
            _sizes((shape.columns,)),
            _sizes((shape.cell,)),
            shape.down,
            shape.across,
            shape.grouped,
            shape.gathers,
            outcomes.adds_up,
            tuple(outcomes.parts),
            tuple(outcomes.arrays),
            self.keeps,
            writes,
        )

    def _sweep(self, sweep: Block) -> None:
        """One look at all data of a program, and the statistics of narrow values after it."""
        shared = len(self.places.loops)
        self.places.walk()
        for let in sweep.lets:
            self.s.value(let.name)
        for number in sweep.measures:
            self.statistics.measured(self.f.numbered[number])
        for output, ref in sweep.writes:
            self._written(output, ref)
        among, after = self._pools(sweep)
        while len(self.places.loops) > shared:
            if self.places.loops[-1].over == "rows":
                for let in among:
                    self.statistics.pooled(let)
            self._leave()
        for let in after:
            self.statistics.pooled(let)

    def _leave(self) -> None:
        self.places.leave()
        self.statistics.left()

    def _pools(self, sweep: Block) -> tuple[list[Let], list[Let]]:
        """Statistics of narrow values: those among rows that the sweep walks over, and others."""
        among: list[Let] = []
        after: list[Let] = []
        rows = set(self.shape.row_axes) if self.shape.down == "walk" else set[str]()
        for let in self._narrow(sweep) if isinstance(self.s, IslandScope) else ():
            if isinstance(let.op, Pool):
                over = set(self.f.leaves(axis for axis, _ in let.op.over))
                (among if over & rows else after).append(let)
        return among, after

    def _narrow(self, sweep: Block) -> Sequence[Let]:
        """The values of cells that follow from a sweep."""
        nest = self.f.nest
        return nest.between[nest.sweeps.index(sweep)].lets

    def _kept(self) -> int:
        """How many values as large as a tile are in registers at once: what sweeps share, weights
        of elements, places of several rows, sums over islands, and what is the same for all rows,
        if a tile may be one row."""
        tensors = {name for sweep in self.sweeps for name in sweep.reads}
        weighed = any(self.f.numbered[n].weighed for sweep in self.sweeps for n in sweep.measures)
        kept = len(tensors) + weighed + (self.shape.down == "whole") + self.statistics.running
        if self.shape.turns and self.shape.across == "whole":
            before = [r for r in self.s.local if self.s.depth[r] < len(self.places.loops)]
            kept += sum(self.s.varies(self.f.lets[r].type.axes) == COLUMN for r in before)
        return kept

    def _written(self, output: str, ref: Ref) -> None:
        pointer = self.arguments(f"tensor {output}", output.replace(".", "_"))
        value = self.s.value(ref)
        store = self.s.store(pointer, self.s.strided(output), ROW | COLUMN, value)
        self.s.body.append(If(is_given(pointer), (store,)) if output.startswith("to.d.") else store)


def _sizes(groups: Sequence[Group]) -> Keys:
    return tuple(f"size {leaf}" for group in groups for leaf in group)
