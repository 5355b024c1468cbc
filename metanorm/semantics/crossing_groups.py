"""Reports windows and pasts that reach from one group of an axis into the next."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.segments import CrossesGroups
from metanorm.ir.aggregation import Causal, Window, grouping_text
from metanorm.ir.nodes import Count, Pool
from metanorm.ir.operands import every_let
from metanorm.ir.program import InputDecl
from metanorm.semantics.lowering import Lowering
from metanorm.source import Span


def report_crossing_groups(low: Lowering, problems: Collector) -> None:
    """Report each once, at the pool. An index that chooses rows says nothing about neighbours."""
    grouped = {
        decl.dims[0]: decl for decl in low.inputs if decl.names_groups and len(decl.dims) == 1
    }
    reported: set[Span] = set()
    for let in every_let(low.body) if grouped else ():
        over = let.op.over if isinstance(let.op, (Pool, Count)) else ()
        for axis, grouping in over:
            is_uncut = isinstance(grouping, (Window, Causal)) and grouping.within is None
            if is_uncut and axis in grouped and let.span not in reported:
                reported.add(let.span)
                problems.add(_problem(let.span, grouping_text(grouping), axis, grouped, low))


def _problem(
    span: Span, matrix: str, axis: str, grouped: Mapping[str, InputDecl], low: Lowering
) -> CrossesGroups:
    decl = grouped[axis]
    word, declared = matrix.partition(",")[0], low.spans[decl.name]
    matrix = word if word == matrix else f"{word})"
    return CrossesGroups(span, matrix, decl.name, low.table.shown(axis), decl.offsets, declared)
