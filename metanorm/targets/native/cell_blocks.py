"""When C computes values of cells: at the beginning, with their islands, or at the end."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Let, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Nest


@dataclass(frozen=True)
class CellBlock:
    """Values that are computed together, after some reductions; `ranged` where they belong to
    islands, of which each worker has some."""

    lets: tuple[Let, ...]
    finished: tuple[int, ...] = ()
    per_island: bool = False


def cell_blocks(nest: Nest) -> list[CellBlock]:
    """At the beginning, before the sweeps, after each of them, and at the end."""
    begin, before, after, end = (nest.block(w) for w in ("begin", "before", "after", "end"))
    blocks = [CellBlock(begin.lets), CellBlock(before.lets, per_island=True)]
    for block in nest.between:
        after_lets = after.lets if block is nest.between[-1] else ()
        blocks.append(CellBlock((*block.lets, *after_lets), block.finished, per_island=True))
    blocks.append(CellBlock(end.lets, end.finished))
    return blocks


def refs_read_elsewhere(nest: Nest) -> set[Ref]:
    """Values of cells that sweeps, results or buffers take."""
    wide = {let.name for sweep in nest.sweeps for let in sweep.lets}
    refs = {ref for block in nest.blocks for _, ref in block.writes}
    refs |= {update.value for update in nest.block("end").updates}
    for sweep in nest.sweeps:
        for let in sweep.lets:
            refs |= {r for r in operands(let.op) if r not in wide}
    for r in nest.reductions:
        refs |= {x for x in (r.value, r.where, r.weight) if x is not None}
    return refs
