"""Finds windows, pasts and scans that reach from one group of an axis into the next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.segments import CrossesSegments
from metanorm.ir.aggregation import Causal, Window, grouping_text
from metanorm.ir.nodes import Count, Pool, Recurrence
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
        if isinstance(let.op, Recurrence) and let.op.axis in grouped and not let.op.before:
            decl = grouped[let.op.axis]
            axis = low.table.shown(let.op.axis)
            yield Crossing(let.span, "scan", decl.name, axis, low.spans[decl.name])
        for axis, grouping in over:
            is_uncut = isinstance(grouping, (Window, Causal)) and grouping.within is None
            if is_uncut and axis in grouped and let.span not in reported:
                reported.add(let.span)
                text, name = grouping_text(grouping), grouped[axis].name
                word = text.partition(",")[0]  # without the edge, which no segment has
                matrix = word if word == text else f"{word})"
                yield Crossing(let.span, matrix, name, low.table.shown(axis), low.spans[name])


def report_crossing_segments(low: Lowering, problems: Collector) -> None:
    """Report the pools that cross segments of offsets."""
    for crossing in crossings(low, offsets=True):
        problems.add(CrossesSegments(*crossing))
