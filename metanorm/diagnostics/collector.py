"""The collector to which all stages report problems."""

from __future__ import annotations

from collections import Counter

from metanorm.diagnostics.model import INTERNAL, Diagnostic, Problem, Severity

MAX_PER_SOURCE = 200  # errors, and as many warnings, of one file; more would help nobody


class Collector:
    """Collects diagnostics: each once, and a limited number per source."""

    def __init__(self) -> None:
        self._diagnostics: dict[tuple[str, str, int, int, str], Diagnostic] = {}
        self._counts: Counter[tuple[str, Severity]] = Counter()

    def add(self, problem: Problem) -> None:
        """Record a problem, unless its file has `MAX_PER_SOURCE` of this severity already."""
        if not self._is_full(problem.span.source, problem.severity):
            self.extend((problem.diagnostic(),))

    def extend(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Record diagnostics that another collector gathered."""
        for diagnostic in diagnostics:
            span = diagnostic.primary.span
            key = (diagnostic.code, span.source, span.start, span.end, diagnostic.message)
            if key not in self._diagnostics and not self._is_full(span.source, diagnostic.severity):
                self._diagnostics[key] = diagnostic
                self._counts[span.source, diagnostic.severity] += 1

    def _is_full(self, source: str, severity: Severity) -> bool:
        return self._counts[source, severity] >= MAX_PER_SOURCE

    @property
    def has_errors(self) -> bool:
        """Whether anything recorded is an error."""
        return any(d.severity is Severity.ERROR for d in self._diagnostics.values())

    @property
    def has_mistakes(self) -> bool:
        """Whether anything recorded is an error of a spec, and not of the compiler."""
        errors = (d for d in self._diagnostics.values() if d.severity is Severity.ERROR)
        return any(d.code != INTERNAL for d in errors)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """Everything, in the order of the sources' names and positions."""

        def sort_key(d: Diagnostic) -> tuple[str, int, int, str, str]:
            span = d.primary.span
            return (span.source, span.start, span.end, d.code, d.message)

        return tuple(sorted(self._diagnostics.values(), key=sort_key))
