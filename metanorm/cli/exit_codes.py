"""The exit codes of the command."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.diagnostics import model

OK = 0  # no errors; there may be warnings
FINDINGS = 1  # errors in specs, unformatted files, drift, a verification that failed
USAGE = 2  # the command line or the configuration is wrong
INTERNAL = 3  # a bug in metanorm
INTERRUPTED = 130


def code_of(diagnostics: Iterable[model.Diagnostic]) -> int:
    """The exit code for these diagnostics."""
    errors = [d.code for d in diagnostics if d.severity is model.Severity.ERROR]
    if model.INTERNAL in errors:
        return INTERNAL
    return FINDINGS if errors else OK
