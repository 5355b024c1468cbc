"""Warnings about what a correct program computes. One lint per file; this is the list."""

from __future__ import annotations

from metanorm.diagnostics.collector import Collector
from metanorm.ir.program import Program
from metanorm.semantics.lints.batch_dependent import batch_dependent
from metanorm.semantics.lints.crossing_groups import crossing_groups
from metanorm.semantics.lints.difference_of_squares import difference_of_squares
from metanorm.semantics.lints.unsafe_division import unsafe_division
from metanorm.semantics.lints.unused import unused
from metanorm.semantics.lowering import CallScope, Lowering

LINTS = (unused, unsafe_division, batch_dependent, difference_of_squares, crossing_groups)


def lint(program: Program, low: Lowering, scope: CallScope, problems: Collector) -> None:
    """Run every lint."""
    for check in LINTS:
        for problem in check(program, low, scope):
            problems.add(problem)
