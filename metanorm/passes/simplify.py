"""Simplify: bind equal operations once, apply the algebra, leave out dead code."""

from __future__ import annotations

from metanorm.ir.program import Program
from metanorm.passes.builder import Builder


def simplify(program: Program) -> Program:
    """The simplified program, which computes the same."""
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    return builder.finish()
