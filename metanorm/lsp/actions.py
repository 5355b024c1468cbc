"""Edits that an editor offers: fixes of diagnostics, allowances, all safe fixes, formatting."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from metanorm.diagnostics.model import Applicability, Diagnostic, Severity
from metanorm.findings import non_overlapping
from metanorm.frontend import format_spec
from metanorm.lsp.project import View
from metanorm.source import Span


@dataclass(frozen=True)
class Edit:
    """The replacement of a span by another text."""

    span: Span
    text: str


@dataclass(frozen=True)
class Action:
    """Edits, their title in a menu, and the diagnostic that they resolve."""

    title: str
    edits: tuple[Edit, ...]
    diagnostic: Diagnostic | None = None
    is_preferred: bool = False


def actions(view: View, span: Span) -> list[Action]:
    """The actions for the diagnostics that overlap a span."""
    offered: list[Action] = []
    for diagnostic in view.findings.diagnostics:
        primary = diagnostic.primary.span
        if primary.source == view.name and primary.start <= span.end and span.start <= primary.end:
            offered += _fix_actions(diagnostic)
            if diagnostic.severity is Severity.WARNING:
                offered += _allowance_action(view, diagnostic)
    return offered


def _fix_actions(diagnostic: Diagnostic) -> Iterator[Action]:
    for fix in diagnostic.fixes:
        is_safe = fix.applicability is Applicability.SAFE
        yield Action(fix.title, (Edit(fix.span, fix.replacement),), diagnostic, is_safe)


def _allowance_action(view: View, diagnostic: Diagnostic) -> Iterator[Action]:
    """The action that adds a comment to allow a warning, unless its line has a comment."""
    source = view.source
    number = source.position(diagnostic.primary.span.start).line
    line = source.line(number)
    if diagnostic.code != "MN0703" and "#" not in line:
        end = source.line_starts[number - 1] + len(line)
        comment = f"  # norm: allow {diagnostic.code} -- "
        edit = Edit(source.span(end, end), comment)
        yield Action(f"allow {diagnostic.code} on this line", (edit,), diagnostic)


def safe_fix_edits(view: View) -> list[Edit]:
    """All safe fixes of a text that can be applied together."""
    fixes = view.findings.fixes(unsafe=False).get(view.name, [])
    return [Edit(fix.span, fix.replacement) for fix in non_overlapping(fix for _, fix in fixes)]


def formatting_edits(view: View) -> list[Edit]:
    """The edit that `metanorm fmt` makes, if any; none if the text has syntax errors."""
    text, _ = format_spec(view.source)
    return [Edit(view.source.whole(), text)] if text != view.source.text else []
