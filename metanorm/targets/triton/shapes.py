"""How a kernel goes through the data: which axes its programs have, its rows, and its columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Link
from metanorm.nest.layouts import Group
from metanorm.nest.nest import Nest, Scan
from metanorm.plan.sweeps import Reduction
from metanorm.targets.triton.context import KernelContext

Coverage = Literal["part", "whole", "walk"]


@dataclass(frozen=True)
class Shape:
    """A tile is some rows by some columns: of all axes in `rows`, counted through, and of the
    axis along which memory runs. Each program has one place along the `outer` axes, or where it
    `gathers`, some of them in turn.

    `down` says how a program covers rows, and `across` columns. It has a `part` of them, a chunk
    of rows that it goes through in turns, a block of columns; or each tile has the `whole`; or
    each sweep has to `walk` over all of them. `grouped` rows are those of one group. Where `cell`
    axes are the last ones of the columns, a block has all of them at some places of the others,
    as channels in groups that lie side by side.
    """

    outer: tuple[Group, ...]
    rows: tuple[Group, ...]
    columns: Group
    down: Coverage = "part"
    across: Coverage = "part"
    grouped: bool = False
    gathers: bool = False
    cell: Group = ()

    @property
    def turns(self) -> bool:
        """Whether a program goes through a chunk of rows, and does all there is to do in each."""
        return bool(self.rows) and self.down == "part"

    @property
    def walks(self) -> bool:
        """Whether there is a loop for each sweep."""
        return "walk" in (self.down, self.across)

    @property
    def row_axes(self) -> Group:
        """All axes that rows count through."""
        return tuple(leaf for group in self.rows for leaf in group)

    @property
    def outer_axes(self) -> Group:
        """All axes of the places of programs."""
        return tuple(leaf for group in self.outer for leaf in group)


def out_of_tiles(nest: Nest) -> Iterator[str]:
    """Why Triton has no kernel where others may: memory runs along an axis of which elements are
    in groups, or a loop has as many turns as a node has edges."""
    by_index = (m for r in nest.reductions for _, m in r.over if isinstance(m, ByIndex))
    if any(by_index) and (nest.grouped,) not in nest.loops[:-1]:
        yield "groups of single elements"
    if any(isinstance(s, Scan) for _, s in nest.statements()):
        yield "sums of what overlaps"
    if any(isinstance(let.op, Link) for let in nest.program.body):
        yield "neighbours in a graph"


def of_sweep(context: KernelContext, reductions: Sequence[Reduction]) -> Shape:
    """A shape for one sweep of any data: rows are what is pooled, or else everything."""
    groups = [g for g in context.groups if g != (context.cell,)]
    columns, others = groups[-1], groups[:-1]
    if any(isinstance(m, ByIndex) for r in reductions for _, m in r.over):
        grouped = (context.nest.grouped,)
        assert context.cell is not None
        outer = ((context.cell,), *(g for g in others if g != grouped))
        return Shape(outer, (grouped,), columns, grouped=True)  # type: ignore[arg-type]
    tiled = [r for r in reductions if set(columns) <= set(r.cells)]
    tiled = tiled or [r for r in reductions if r.row.rule == "moments"] or list(reductions)
    rows = [g for g in others if tiled and all(not set(g) <= set(r.cells) for r in tiled)]
    rows = rows or others
    return Shape(tuple(g for g in others if g not in rows), tuple(rows), columns)


def of_islands(context: KernelContext, walk: bool) -> Iterator[Shape]:
    """Shapes in which programs have islands that are whole: in each tile, or where they `walk`,
    of any size. The better one comes first."""
    found = _walked(context) if walk else _held(context)
    shapes = [] if found is None else [found]
    if walk and found is not None and (found.down, found.across) == ("walk", "walk"):
        shapes.append(replace(found, across="whole"))  # for statistics of columns
    for shape in shapes:
        outer = set() if shape.turns else set(shape.outer_axes)
        if outer and any(r.terminal and not outer & set(r.cells) for r in context.numbered):
            yield replace(shape, gathers=True)
        yield shape


def _held(context: KernelContext) -> Shape | None:
    """A shape in which each tile holds islands that are whole."""
    if context.cell is not None:
        return None
    islands = set(context.nest.islands)
    columns, others = context.groups[-1], context.groups[:-1]
    inside = tuple(g for g in others if not set(g) <= islands)
    outer = tuple(g for g in others if g not in inside)
    if islands & set(columns):
        cell = tuple(leaf for leaf in columns if leaf not in islands)
        apart = columns[len(columns) - len(cell) :] == cell
        return Shape(outer, inside, columns, "whole", cell=cell) if inside and apart else None
    if inside:
        return Shape(outer, inside, columns, "whole", "whole")
    outer = _apart(context, others)
    return Shape(outer, tuple(g for g in others if g not in outer), columns, "part", "whole")


def _apart(context: KernelContext, rows: Sequence[Group]) -> tuple[Group, ...]:
    """Axes of rows that have to be set apart, since statistics are taken over the others alone:
    a program then adds up what belongs together."""
    partly = [r for r in context.numbered if any(not set(g) <= set(r.cells) for g in rows)]
    found = tuple(g for g in rows if any(set(g) <= set(r.cells) for r in partly))
    return found if len(found) < len(rows) else ()


def _walked(context: KernelContext) -> Shape | None:
    """A shape in which a program walks over an island once for each sweep."""
    if context.cell is not None:
        return _walked_group(context)
    held = _held(context)
    if held is None or not context.nest.islands:
        return None
    walk = {"part": "part", "whole": "walk"}
    return replace(held, down=walk[held.down], across=walk[held.across])  # type: ignore[arg-type]


def _walked_group(context: KernelContext) -> Shape | None:
    """The same where islands are groups of rows."""
    islands = set(context.nest.islands)
    groups = [g for g in context.groups if g != (context.cell,)]
    columns, others = groups[-1], groups[:-1]
    inside = [g for g in others if not set(g) <= islands]
    if context.cell not in islands or inside != [(context.nest.grouped,)]:
        return None
    outer = ((context.cell,), *(g for g in others if g not in inside))
    across: Coverage = "part" if set(columns) <= islands else "whole"
    return Shape(outer, tuple(inside), columns, "walk", across, grouped=True)
