"""Replace functions without a derivative by their formulas, which have one."""

from __future__ import annotations

from metanorm.ir.program import Program
from metanorm.passes.compositions import COMPOSITIONS, with_formulas
from metanorm.passes.derivatives import DERIVATIVES


def derivable(program: Program) -> Program:
    """The program without functions that have a formula but no derivative."""
    return with_formulas(program, COMPOSITIONS.keys() - DERIVATIVES.keys())
