"""MN0701: division by a statistic that nothing keeps from zero."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.diagnostics.lints import UnsafeDivision
from metanorm.diagnostics.model import Problem
from metanorm.ir.nodes import Pool, Program, Ref
from metanorm.ir.ranges import ranges
from metanorm.ir.verify import operands
from metanorm.semantics.lowering import Frame, Lowering
from metanorm.source import Span


def unsafe_division(program: Program, low: Lowering, frame: Frame) -> Iterator[Problem]:
    """A warning for each divisor that is made of statistics and is not surely positive."""
    known = ranges(program)
    statistical: set[Ref] = set()
    for let in program.body:
        if isinstance(let.op, Pool) or any(r in statistical for r in operands(let.op)):
            statistical.add(let.name)
    reported: set[Span] = set()
    for ref, span in low.divisors:
        if ref in statistical and not known[ref].positive and span not in reported:
            reported.add(span)
            yield UnsafeDivision(span)
