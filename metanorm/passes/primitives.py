"""Functions that are formulas of others are written out: kernels know primitives alone."""

from __future__ import annotations

from metanorm.ir.nodes import Program
from metanorm.passes.compositions import COMPOSITIONS, written_out


def primitives(program: Program) -> Program:
    """The program without functions that have a formula."""
    return written_out(program, COMPOSITIONS.keys())
