"""Diagnostics as one JSON object, for editors and scripts. The schema is versioned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metanorm.diagnostics.model import Applicability, Diagnostic, Fix, Label, Severity
from metanorm.json_document import Document, json_text
from metanorm.source import Source, Span


@dataclass(frozen=True)
class PositionReport:
    """Line and column from one, offset from zero; in characters."""

    line: int
    column: int
    offset: int


@dataclass(frozen=True)
class LabelReport:
    """A remark about a span of a file."""

    path: str
    start: PositionReport
    end: PositionReport
    text: str


@dataclass(frozen=True)
class EditReport:
    """A part of a file that becomes `text`."""

    path: str
    start: PositionReport
    end: PositionReport
    text: str


@dataclass(frozen=True)
class FixReport:
    """Edits that end a diagnostic, and whether a program may apply them unseen."""

    applicability: Applicability
    title: str
    edits: tuple[EditReport, ...]


@dataclass(frozen=True)
class FindingReport:
    """One diagnostic."""

    code: str
    severity: Severity
    message: str
    primary: LabelReport
    secondary: tuple[LabelReport, ...]
    notes: tuple[str, ...]
    helps: tuple[str, ...]
    fixes: tuple[FixReport, ...]


@dataclass(frozen=True, kw_only=True)
class CheckReport(Document):
    """What `metanorm check --format json` prints, and others that read specs begin with."""

    errors: int = 0
    warnings: int = 0
    diagnostics: tuple[FindingReport, ...] = ()


def _positions(span: Span, sources: Mapping[str, Source]) -> tuple[PositionReport, PositionReport]:
    source = sources.get(span.source) or Source.of(span.source, "")
    start, end = source.position(span.start), source.position(span.end)
    return (
        PositionReport(line=start.line, column=start.column, offset=start.offset),
        PositionReport(line=end.line, column=end.column, offset=end.offset),
    )


def _label(label: Label, sources: Mapping[str, Source]) -> LabelReport:
    start, end = _positions(label.span, sources)
    return LabelReport(path=label.span.source, start=start, end=end, text=label.text)


def _fix(fix: Fix, sources: Mapping[str, Source]) -> FixReport:
    start, end = _positions(fix.span, sources)
    edit = EditReport(path=fix.span.source, start=start, end=end, text=fix.replacement)
    return FixReport(applicability=fix.applicability, title=fix.title, edits=(edit,))


def report_fields(
    diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]
) -> dict[str, Any]:
    """The fields that `CheckReport` adds to a document, for these diagnostics."""
    return {
        "errors": sum(d.severity is Severity.ERROR for d in diagnostics),
        "warnings": sum(d.severity is Severity.WARNING for d in diagnostics),
        "diagnostics": tuple(
            FindingReport(
                code=d.code,
                severity=d.severity,
                message=d.message,
                primary=_label(d.primary, sources),
                secondary=tuple(_label(label, sources) for label in d.secondary),
                notes=d.notes,
                helps=d.helps,
                fixes=tuple(_fix(fix, sources) for fix in d.fixes),
            )
            for d in diagnostics
        ),
    }


def render_json(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> str:
    """The report of one run."""
    return json_text(CheckReport(**report_fields(diagnostics, sources)))
