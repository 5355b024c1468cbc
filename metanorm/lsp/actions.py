"""Edits that an editor offers: the fixes of diagnostics, allowances, all safe fixes, the layout."""

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
    """A part of the text that becomes another one."""

    span: Span
    text: str


@dataclass(frozen=True)
class Action:
    """Edits with the words of a menu, and the diagnostic that they end."""

    title: str
    edits: tuple[Edit, ...]
    diagnostic: Diagnostic | None = None
    is_preferred: bool = False


def actions(view: View, span: Span) -> list[Action]:
    """What can be done about the diagnostics that touch a span."""
    found: list[Action] = []
    for diagnostic in view.findings.diagnostics:
        place = diagnostic.primary.span
        if place.source == view.name and place.start <= span.end and span.start <= place.end:
            found += _fix_actions(diagnostic)
            if diagnostic.severity is Severity.WARNING:
                found += _allowance_action(view, diagnostic)
    return found


def _fix_actions(diagnostic: Diagnostic) -> Iterator[Action]:
    for fix in diagnostic.fixes:
        is_safe = fix.applicability is Applicability.SAFE
        yield Action(fix.title, (Edit(fix.span, fix.replacement),), diagnostic, is_safe)


def _allowance_action(view: View, diagnostic: Diagnostic) -> Iterator[Action]:
    """The comment that allows a warning, where its line has no comment yet."""
    source = view.source
    number = source.position(diagnostic.primary.span.start).line
    line = source.line(number)
    if diagnostic.code != "MN0703" and "#" not in line:
        end = source.line_starts[number - 1] + len(line)
        comment = f"  # norm: allow {diagnostic.code} -- "
        edit = Edit(source.span(end, end), comment)
        yield Action(f"allow {diagnostic.code} on this line", (edit,), diagnostic)


def safe_fix_edits(view: View) -> list[Edit]:
    """The safe fixes of a text, those that can be applied together."""
    fixes = view.findings.fixes(unsafe=False).get(view.name, [])
    return [Edit(fix.span, fix.replacement) for fix in non_overlapping(fix for _, fix in fixes)]


def formatting_edits(view: View) -> list[Edit]:
    """The text as `metanorm fmt` has it; nothing where it has syntax errors, or is so already."""
    text, _ = format_spec(view.source)
    return [Edit(view.source.whole(), text)] if text != view.source.text else []
