"""Group per-cell values by when C computes them: first, with their island, or last."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Let, Ref
from metanorm.ir.operands import operands
from metanorm.nest.nest import Nest
from metanorm.targets.native.exact_results import exact_alone


@dataclass(frozen=True)
class CellBlock:
    """Per-cell values that C computes together, once the reductions `finished` are complete.

    `per_island` values belong to islands, of which each worker has a range.
    """

    lets: tuple[Let, ...]
    finished: tuple[int, ...] = ()
    per_island: bool = False


def cell_blocks(nest: Nest) -> list[CellBlock]:
    """The blocks at the beginning, before the sweeps, after each sweep, and at the end."""
    begin, before, after, end = (nest.block(w) for w in ("begin", "before", "after", "end"))
    blocks = [CellBlock(begin.lets), CellBlock(before.lets, per_island=True)]
    for block in nest.between:
        after_lets = after.lets if block is nest.between[-1] else ()
        blocks.append(CellBlock((*block.lets, *after_lets), block.finished, per_island=True))
    blocks.append(CellBlock(end.lets, end.finished))
    return blocks


def refs_read_elsewhere(nest: Nest) -> set[Ref]:
    """The per-cell values that sweeps, results or buffers read, so that they need arrays."""
    wide = {let.name for sweep in nest.sweeps for let in sweep.lets}
    refs = {ref for block in nest.blocks for _, ref in block.writes} - exact_alone(nest)
    refs |= {update.value for update in nest.block("end").updates}
    for sweep in nest.sweeps:
        for let in sweep.lets:
            refs |= {r for r in operands(let.op) if r not in wide}
    for r in nest.reductions:
        refs |= {x for x in (r.value, r.where, r.weight) if x is not None}
    return refs
