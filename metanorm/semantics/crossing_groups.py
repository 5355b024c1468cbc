"""Finds windows, pasts, scans and positions that reach from one group of an axis into the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.segments import CrossesSegments
from metanorm.ir.aggregation import Causal, Window, grouping_text
from metanorm.ir.nodes import AxisMap, Count, Lookup, Op, Pool, Recurrence
from metanorm.ir.operands import every_let
from metanorm.semantics.lowering import Lowering
from metanorm.source import Span


class Crossing(NamedTuple):
    """A pool that ignores the groups of its axis, and the input that names these."""

    span: Span
    matrix: str
    input: str
    axis: str
    declared: Span


def crossings(low: Lowering, offsets: bool) -> Iterator[Crossing]:
    """Each pool once. An index that chooses rows says nothing about neighbours.

    `offsets`: of axes that offsets cut into segments, else of axes whose groups an index names.
    """
    grouped = {
        decl.dims[0]: decl
        for decl in low.inputs
        if decl.names_groups and len(decl.dims) == 1 and decl.offsets == offsets
    }
    reported: set[Span] = set()
    for let in every_let(low.body) if grouped else ():
        over = let.op.over if isinstance(let.op, (Pool, Count)) else ()
        word, along = _move_along(let.op)
        if along in grouped and (offsets or word == "scan"):
            name = grouped[along].name
            yield Crossing(let.span, word, name, low.table.shown(along), low.spans[name])
        for axis, grouping in over:
            is_uncut = isinstance(grouping, (Window, Causal)) and grouping.within is None
            if is_uncut and axis in grouped and let.span not in reported:
                reported.add(let.span)
                text, name = grouping_text(grouping), grouped[axis].name
                word = text.partition(",")[0]  # without the edge, which no segment has
                matrix = word if word == text else f"{word})"
                yield Crossing(let.span, matrix, name, low.table.shown(axis), low.spans[name])


def _move_along(op: Op) -> tuple[str, str]:
    """What reads along an axis without a pool, in a word, and the axis; empty for all else."""
    match op:
        case Recurrence(axis=axis, before=False):
            return "scan", axis
        case Lookup(axis=axis, index=int()):
            return "position", axis
        case AxisMap(function, axis=axis):
            return function, axis
    return "", ""


def report_crossing_segments(low: Lowering, problems: Collector) -> None:
    """Report the pools that cross segments of offsets."""
    for crossing in crossings(low, offsets=True):
        problems.add(CrossesSegments(*crossing))
