"""Diagnostics as one JSON object, for editors and scripts. The schema is versioned."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from metanorm.diagnostics.model import Diagnostic, Label, Severity
from metanorm.source import Source
from metanorm.version import __version__


class _Report(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PlaceReport(_Report):
    """Line and column from one, offset from zero; in characters."""

    line: int
    column: int
    offset: int


class LabelReport(_Report):
    """A remark at a place in a file."""

    path: str
    start: PlaceReport
    end: PlaceReport
    text: str


class FindingReport(_Report):
    """One diagnostic."""

    code: str
    severity: Severity
    message: str
    primary: LabelReport
    secondary: tuple[LabelReport, ...]
    notes: tuple[str, ...]
    helps: tuple[str, ...]


class CheckReport(_Report):
    """What `metanorm check --format json` prints."""

    schema_version: int = 1
    tool: str = "metanorm"
    version: str = __version__
    errors: int
    warnings: int
    diagnostics: tuple[FindingReport, ...]


def _label(label: Label, sources: Mapping[str, Source]) -> LabelReport:
    source = sources.get(label.span.source) or Source.of(label.span.source, "")
    start, end = source.position(label.span.start), source.position(label.span.end)
    return LabelReport(
        path=label.span.source,
        start=PlaceReport(line=start.line, column=start.column, offset=start.offset),
        end=PlaceReport(line=end.line, column=end.column, offset=end.offset),
        text=label.text,
    )


def render_json(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> str:
    """The report of one run."""
    report = CheckReport(
        errors=sum(d.severity is Severity.ERROR for d in diagnostics),
        warnings=sum(d.severity is Severity.WARNING for d in diagnostics),
        diagnostics=tuple(
            FindingReport(
                code=d.code,
                severity=d.severity,
                message=d.message,
                primary=_label(d.primary, sources),
                secondary=tuple(_label(label, sources) for label in d.secondary),
                notes=d.notes,
                helps=d.helps,
            )
            for d in diagnostics
        ),
    )
    return report.model_dump_json(indent=2) + "\n"


def json_schema() -> dict[str, Any]:
    """The JSON schema of the report."""
    schema: dict[str, Any] = json.loads(json.dumps(CheckReport.model_json_schema()))
    return schema
