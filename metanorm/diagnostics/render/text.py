"""Diagnostics as a person reads them: headline, excerpt with carets, help.

The result is a sequence of styled pieces; joined, they are the plain text.
Only a terminal turns the styles into colours.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

from metanorm.diagnostics.model import INTERNAL, Diagnostic, Label, Severity
from metanorm.source import Source
from metanorm.visible import visible

Piece = tuple[str, str]  # text, style name

MAX_COLUMNS = 110  # of an excerpt; a longer line is cut on both sides


def column_count(text: str) -> int:
    """Terminal columns that `text` takes."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )


def counts_text(diagnostics: Sequence[Diagnostic]) -> str:
    """`2 errors, 1 warning`."""
    parts = []
    for severity in Severity:
        n = sum(d.severity is severity for d in diagnostics)
        if n:
            parts.append(f"{n} {severity.value}{'s' if n > 1 else ''}")
    return ", ".join(parts) or "no problems"


def render_text(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> str:
    """All diagnostics as plain text, a blank line after each."""
    return "".join(text for d in diagnostics for text, _ in styled_pieces(d, sources))


def styled_pieces(d: Diagnostic, sources: Mapping[str, Source]) -> Iterator[Piece]:
    """One diagnostic, as text with styles."""
    source = sources.get(d.primary.span.source)
    yield visible(d.primary.span.source), "path"
    if source is not None and source.text:
        position = source.position(d.primary.span.start)
        yield f":{position.line}:{position.column}", "path"
    yield ": ", ""
    yield f"{d.severity.value}[{d.code}]", d.severity.value
    yield f": {visible(d.message)}\n", "headline"
    yield from _excerpt(d, sources)
    for kind, lines in (("note", d.notes), ("help", d.helps)):
        for line in lines:
            yield f"  = {kind}: ", "gutter"
            yield f"{visible(line)}\n", ""
    if d.code != INTERNAL:
        yield "  = more: ", "gutter"
        yield f"metanorm explain {d.code}\n", ""
    yield "\n", ""


def _excerpt(d: Diagnostic, sources: Mapping[str, Source]) -> Iterator[Piece]:
    labels = [(label, False) for label in d.secondary] + [(d.primary, True)]
    shown = [
        (
            label.span.source,
            sources[label.span.source].position(label.span.start).line,
            label,
            primary,
        )
        for label, primary in labels
        if label.span.source in sources and sources[label.span.source].text
    ]
    if not shown:
        return
    # Other files first, the file at fault last; lines in order within a file.
    home = d.primary.span.source
    shown.sort(key=lambda s: (s[0] == home, s[0], s[1], s[2].span.start))
    margin = len(str(max(line for _, line, _, _ in shown)))
    yield f"{' ' * margin} |\n", "gutter"
    for (name, number), group in groupby(shown, key=lambda s: (s[0], s[1])):
        if name != home:
            yield f"{' ' * margin} in {visible(name)}\n", "gutter"
        yield from _line(sources[name], number, margin, [(label, p) for *_, label, p in group])
    yield f"{' ' * margin} |\n", "gutter"


def _line(
    source: Source, number: int, margin: int, labels: Sequence[tuple[Label, bool]]
) -> Iterator[Piece]:
    text = source.line(number)
    start_of_line = source.line_starts[number - 1]
    first = min(label.span.start for label, _ in labels) - start_of_line
    left = 0 if len(text) <= MAX_COLUMNS else max(0, first - MAX_COLUMNS // 2)
    right = min(len(text), left + MAX_COLUMNS)
    lead, tail = ("..." if left else ""), ("..." if right < len(text) else "")
    yield f"{number:>{margin}} | ", "gutter"
    yield f"{lead}{visible(text[left:right])}{tail}\n", ""
    for label, primary in labels:
        start = min(max(label.span.start - start_of_line, left), right)
        end = min(max(label.span.end - start_of_line, start), right)
        indent = column_count(lead + text[left:start])
        mark = ("^" if primary else "-") * max(1, column_count(text[start:end]))
        yield f"{' ' * margin} | ", "gutter"
        remark = f" {visible(label.text)}" if label.text else ""
        yield f"{' ' * indent}{mark}{remark}\n", "caret" if primary else "label"
