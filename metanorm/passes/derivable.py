"""Functions without a derivative of their own become their formulas, which have one."""

from __future__ import annotations

from metanorm.ir.nodes import Program
from metanorm.passes.compositions import COMPOSITIONS, written_out
from metanorm.passes.derivatives import DERIVATIVES


def derivable(program: Program) -> Program:
    """The program without functions that have a formula and no derivative."""
    return written_out(program, COMPOSITIONS.keys() - DERIVATIVES.keys())
