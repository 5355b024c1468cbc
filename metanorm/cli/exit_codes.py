"""How the command ends."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.diagnostics import model

OK = 0  # done, nothing found (warnings alone are nothing)
FINDINGS = 1  # errors in specs, unformatted files, drift, a verification that failed
USAGE = 2  # the command line or the configuration is wrong
INTERNAL = 3  # a bug in metanorm
INTERRUPTED = 130


def code_of(found: Iterable[model.Diagnostic]) -> int:
    """How a command ends that has found these."""
    errors = [d.code for d in found if d.severity is model.Severity.ERROR]
    if model.INTERNAL in errors:
        return INTERNAL
    return FINDINGS if errors else OK
