"""Reports axes of optional inputs alone, whose length is unknown without the input."""

from __future__ import annotations

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.lengths import NoLength
from metanorm.ir.program import InputDecl
from metanorm.semantics.lowering import Lowering
from metanorm.syntax import ast


def report_open_lengths(norm: ast.Norm, low: Lowering, problems: Collector) -> None:
    """Report each such axis once, at its introduction."""
    known_dims = {dim for decl in low.inputs if _has_lengths(decl) for dim in decl.dims}
    items = (i for s in norm.statements if isinstance(s, ast.Input) for i in s.items)
    spans = {(i.name.name, dim.axis.name): dim.span for i in items for dim in i.dims}
    table = low.table
    for decl in low.inputs:
        for dim in decl.dims:
            span = spans.get((decl.name, dim))
            if span is None or dim in known_dims or table.space[dim].size is not None:
                continue
            known_dims.add(dim)
            problems.add(NoLength(span, table.shown(dim), decl.name))


def _has_lengths(decl: InputDecl) -> bool:
    """Whether an input always gives the lengths of its axes."""
    if decl.sort == "edges" or decl.offsets:
        return False
    return decl.required or isinstance(decl.default, str)
