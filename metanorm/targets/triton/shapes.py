"""How a kernel goes through the data: which axes its programs have, its rows, and its columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from metanorm.ir.aggregation import ByIndex
from metanorm.plan.sweeps import NotPlannable, Reduction
from metanorm.targets.triton.frame import Frame, Group

Way = Literal["part", "whole"]


@dataclass(frozen=True)
class Shape:
    """A tile is some rows by some columns: of all axes in `rows`, counted through, and of the
    axis along which memory runs. Each program has one place along the `outer` axes.

    `down` says how a program covers rows and `across` columns: it has a `part` of them, a chunk
    of rows that it goes through in turns and a block of columns; or its tile has the `whole`.
    `grouped` rows are those of one group.
    """

    outer: tuple[Group, ...]
    rows: tuple[Group, ...]
    columns: Group
    down: Way = "part"
    across: Way = "part"
    grouped: bool = False

    @property
    def turns(self) -> bool:
        """Whether a program may look at several tiles, one below the other."""
        return bool(self.rows) and self.down == "part"

    @property
    def row_axes(self) -> Group:
        """All axes that rows count through."""
        return tuple(leaf for group in self.rows for leaf in group)

    def by_row(self, reduction: Reduction) -> bool:
        """Whether the cells of a statistic vary along rows."""
        return any(set(group) <= set(reduction.cells) for group in self.rows)

    def by_column(self, reduction: Reduction) -> bool:
        """Whether they vary along columns."""
        return set(self.columns) <= set(reduction.cells)


def of_sweep(frame: Frame, reductions: Sequence[Reduction]) -> Shape:
    """A shape for one sweep of any data: rows are what is pooled, or else everything."""
    groups = [g for g in frame.groups if g != (frame.cell,)]
    columns, others = groups[-1], groups[:-1]
    if any(isinstance(m, ByIndex) for r in reductions for _, m in r.over):
        grouped = (frame.plan.grouped,)
        if grouped not in others or frame.cell is None:
            raise NotPlannable("groups of single elements")
        outer = ((frame.cell,), *(g for g in others if g != grouped))
        return Shape(outer, (grouped,), columns, grouped=True)  # type: ignore[arg-type]
    tiled = [r for r in reductions if set(columns) <= set(r.cells)]
    tiled = tiled or [r for r in reductions if r.kind == "var"] or list(reductions)
    rows = [g for g in others if tiled and all(not set(g) <= set(r.cells) for r in tiled)]
    rows = rows or others
    return Shape(tuple(g for g in others if g not in rows), tuple(rows), columns)


def of_islands(frame: Frame) -> Shape | None:
    """A shape in which each tile holds islands that are whole; `None` where there is none."""
    if frame.cell is not None:
        return None
    islands = set(frame.plan.islands)
    columns, others = frame.groups[-1], frame.groups[:-1]
    inside = tuple(g for g in others if not set(g) <= islands)
    outer = tuple(g for g in others if g not in inside)
    if set(columns) <= islands:
        return Shape(outer, inside, columns, down="whole") if inside else None
    if islands & set(columns):
        return None
    if inside:
        return Shape(outer, inside, columns, down="whole", across="whole")
    return Shape((), others, columns, across="whole")
