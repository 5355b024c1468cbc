"""When C computes values of cells: at the beginning, with their islands, or at the end."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Let, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Nest


@dataclass(frozen=True)
class CellGroup:
    """Values that are computed together, after some reductions; `ranged` where they belong to
    islands, of which each worker has some."""

    lets: tuple[Let, ...]
    finished: tuple[int, ...] = ()
    ranged: bool = False


def groups_of_cells(nest: Nest) -> list[CellGroup]:
    """At the beginning, before the sweeps, after each of them, and at the end."""
    begin, before, after, end = (nest.block(w) for w in ("begin", "before", "after", "end"))
    groups = [CellGroup(begin.lets), CellGroup(before.lets, ranged=True)]
    for block in nest.between:
        more = after.lets if block is nest.between[-1] else ()
        groups.append(CellGroup((*block.lets, *more), block.finished, ranged=True))
    groups.append(CellGroup(end.lets, end.finished))
    return groups


def read_elsewhere(nest: Nest) -> set[Ref]:
    """Values of cells that sweeps, results or buffers take."""
    wide = {let.name for sweep in nest.sweeps for let in sweep.lets}
    kept = {ref for block in nest.blocks for _, ref in block.writes}
    kept |= {update.value for update in nest.block("end").updates}
    for sweep in nest.sweeps:
        for let in sweep.lets:
            kept |= {r for r in operands(let.op) if r not in wide}
    for r in nest.reductions:
        kept |= {x for x in (r.value, r.where, r.weight) if x is not None}
    return kept
