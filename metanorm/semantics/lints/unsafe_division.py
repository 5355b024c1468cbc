"""MN0701: division by a statistic that nothing keeps from zero."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metanorm.diagnostics.lints import UnsafeDivision
from metanorm.diagnostics.model import Problem
from metanorm.ir.nodes import Map, Number, Op, Pool, Recurrence, Ref
from metanorm.ir.operands import operands
from metanorm.ir.program import Program
from metanorm.ir.ranges import ranges
from metanorm.semantics.lowering import CallScope, Lowering
from metanorm.source import Span


def unsafe_division(program: Program, low: Lowering, scope: CallScope) -> Iterator[Problem]:
    """A warning for each divisor made of statistics that may be zero."""
    yield from _unsafe_divisions(program, low)
    if program.backward is not None:
        yield from _unsafe_divisions(program.backward.program, low, within=program)


def _unsafe_divisions(
    program: Program, low: Lowering, within: Program | None = None
) -> Iterator[Problem]:
    """The warnings for one program, without those for values that `within` has, too."""
    range_by_ref = ranges(program)
    reported_elsewhere = set(within.index.ops) if within is not None else set()
    statistical: set[Ref] = set()
    for let in program.body:
        if isinstance(let.op, (Pool, Recurrence)) or any(
            r in statistical for r in operands(let.op)
        ):
            statistical.add(let.name)
    reported: set[Span] = set()
    for ref, span in low.divisors:
        if ref not in statistical or ref in reported_elsewhere or span in reported:
            continue
        if not (range_by_ref[ref].positive or _has_eps(ref, program.index.ops)):
            reported.add(span)
            yield UnsafeDivision(span)


def _has_eps(ref: Ref, ops: Mapping[Ref, Op]) -> bool:
    """Whether a scalar such as eps is added, under a root or not: the author considered zero."""
    match ops[ref]:
        case Map("add", arguments):
            return any(isinstance(ops[a], Number) for a in arguments)
        case Map("sqrt" | "pow", (inner, *_)):
            return _has_eps(inner, ops)
    return False
