"""Diagnostics as SARIF 2.1.0, for code scanning. Only the rules that fired are listed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

from metanorm.diagnostics.model import INTERNAL, Applicability, Diagnostic, Fix, Label
from metanorm.diagnostics.registry import manual_page
from metanorm.json_document import json_text
from metanorm.source import Source, Span
from metanorm.version import __version__


def _artifact(span: Span) -> dict[str, str]:
    return {"uri": quote(span.source.encode(errors="surrogateescape"))}


def _region(span: Span, sources: Mapping[str, Source]) -> dict[str, int]:
    source = sources.get(span.source) or Source.of(span.source, "")
    start, end = source.position(span.start), source.position(span.end)
    return {
        "startLine": start.line,
        "startColumn": start.column,
        "endLine": end.line,
        "endColumn": end.column,
    }


def _fix(fix: Fix, sources: Mapping[str, Source]) -> dict[str, Any]:
    """A fix as SARIF has it. SARIF has no field for applicability, so an unsafe one says it."""
    guess = "" if fix.applicability is Applicability.SAFE else "If that is what was meant: "
    replacement = {
        "deletedRegion": _region(fix.span, sources),
        "insertedContent": {"text": fix.replacement},
    }
    change = {"artifactLocation": _artifact(fix.span), "replacements": [replacement]}
    return {"description": {"text": f"{guess}{fix.title}"}, "artifactChanges": [change]}


def _location(label: Label, sources: Mapping[str, Source]) -> dict[str, Any]:
    location: dict[str, Any] = {
        "physicalLocation": {
            "artifactLocation": _artifact(label.span),
            "region": _region(label.span, sources),
        }
    }
    if label.text:
        location["message"] = {"text": label.text}
    return location


def render_sarif(diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source]) -> str:
    """One SARIF log with one run."""
    rules: list[dict[str, Any]] = []
    for code in sorted({d.code for d in diagnostics}):
        if code == INTERNAL:
            rules.append({"id": code, "shortDescription": {"text": "A bug in metanorm"}})
            continue
        page = manual_page(code)
        rules.append(
            {
                "id": code,
                "shortDescription": {"text": page.title},
                "help": {"text": page.body, "markdown": page.body},
            }
        )
    order = [rule["id"] for rule in rules]
    results = [
        {
            "ruleId": d.code,
            "ruleIndex": order.index(d.code),
            "level": d.severity.value,
            "message": {"text": "\n".join((d.message, *d.notes, *d.helps))},
            "locations": [_location(d.primary, sources)],
            "relatedLocations": [_location(label, sources) for label in d.secondary],
            **({"fixes": [_fix(fix, sources) for fix in d.fixes]} if d.fixes else {}),
        }
        for d in diagnostics
    ]
    log = {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [
            {
                "tool": {"driver": {"name": "metanorm", "version": __version__, "rules": rules}},
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json_text(log)
