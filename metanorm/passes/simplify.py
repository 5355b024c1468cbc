"""Bind everything anew: equal operations once, the algebra applied, dead bindings left out."""

from __future__ import annotations

from metanorm.ir.nodes import Program
from metanorm.passes.builder import Builder


def simplify(program: Program) -> Program:
    """The same program, tidied."""
    builder = Builder(program)
    for let in program.body:
        builder.copy(let)
    return builder.finish()
