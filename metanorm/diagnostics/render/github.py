"""Diagnostics as GitHub Actions workflow commands: they show up in the diff of a pull request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metanorm.diagnostics.model import Diagnostic
from metanorm.source import Source
from metanorm.visible import visible


def _escape_data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _escape_property(text: str) -> str:
    return _escape_data(visible(text)).replace(":", "%3A").replace(",", "%2C")


def render_github(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> str:
    """One `::error` or `::warning` line for each diagnostic."""
    lines = []
    for d in diagnostics:
        span = d.primary.span
        source = sources.get(span.source) or Source.of(span.source, "")
        start, end = source.position(span.start), source.position(span.end)
        where = (
            f"file={_escape_property(span.source)},line={start.line},endLine={end.line},"
            f"col={start.column},endColumn={end.column},title={_escape_property(d.code)}"
        )
        text = "\n".join(visible(line) for line in (d.message, *d.notes, *d.helps))
        lines.append(f"::{d.severity.value} {where}::{_escape_data(text)}\n")
    return "".join(lines)
