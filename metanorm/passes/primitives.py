"""Replace functions by their formulas, so that kernels need primitives only."""

from __future__ import annotations

from metanorm.ir.program import Program
from metanorm.passes.compositions import COMPOSITIONS, with_formulas


def primitives(program: Program) -> Program:
    """The program without functions that have a formula."""
    return with_formulas(program, COMPOSITIONS.keys())
