"""What sweeps compute, whatever their per-cell values are called.

Kernels that compute the same from other per-cell values, such as those of training and of
evaluation, share their sweeps.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Ref
from metanorm.ir.operands import operands
from metanorm.ir.rename import map_operands
from metanorm.nest.nest import Block, Nest


@dataclass(frozen=True)
class SweepFormula:
    """The statements of a sweep, and the per-cell values that the numbers in it stand for."""

    text: str
    cells: tuple[Ref, ...]


def sweep_formulas(nest: Nest) -> list[SweepFormula]:
    """The formula of each sweep."""
    return [_formula(nest, number, sweep) for number, sweep in enumerate(nest.sweeps)]


def _formula(nest: Nest, number: int, sweep: Block) -> SweepFormula:
    types = nest.program.index.types
    symbols: dict[Ref, str] = {}
    cells: list[Ref] = []

    def symbol(ref: Ref) -> str:
        if ref not in symbols:
            symbols[ref] = f"cell {len(cells)}: {types[ref]}"
            cells.append(ref)
        return symbols[ref]

    statements: list[object] = [number]
    for let in sweep.lets:
        renamed = {ref: symbol(ref) for ref in operands(let.op)}
        statements.append((map_operands(let.op, renamed), let.type))
        symbols[let.name] = f"element {len(symbols)}"
    for measured in sweep.measures:
        r = nest.reductions[measured]
        reads = tuple(ref and symbol(ref) for ref in (r.value, r.where, r.weight))
        statements.append((measured, r.row, r.cells, r.terminal, reads))
    statements += [(array, symbol(ref)) for array, ref in sweep.writes]
    return SweepFormula(repr(statements), tuple(cells))
