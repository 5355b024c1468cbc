"""Where stages leave what they find."""

from __future__ import annotations

from collections import Counter

from metanorm.diagnostics.model import INTERNAL, Diagnostic, Problem, Severity

MAX_PER_SOURCE = 200  # errors, and as many warnings, of one file: more help nobody


class Collector:
    """Gathers problems; the same one at the same place counts once."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, int, int, str], Diagnostic] = {}
        self._counts: Counter[tuple[str, Severity]] = Counter()

    def add(self, problem: Problem) -> None:
        """Record a problem, unless its file has had its share."""
        if not self._is_full(problem.span.source, problem.severity):
            self.extend((problem.diagnostic(),))

    def extend(self, diagnostics: tuple[Diagnostic, ...]) -> None:
        """Record diagnostics that another collector gathered."""
        for found in diagnostics:
            span = found.primary.span
            key = (found.code, span.source, span.start, span.end, found.message)
            if key not in self._found and not self._is_full(span.source, found.severity):
                self._found[key] = found
                self._counts[span.source, found.severity] += 1

    def _is_full(self, source: str, severity: Severity) -> bool:
        return self._counts[source, severity] >= MAX_PER_SOURCE

    @property
    def has_errors(self) -> bool:
        """Whether anything recorded is an error."""
        return any(d.severity is Severity.ERROR for d in self._found.values())

    @property
    def has_mistakes(self) -> bool:
        """Whether anything recorded is an error of a spec, and not of the compiler."""
        errors = (d for d in self._found.values() if d.severity is Severity.ERROR)
        return any(d.code != INTERNAL for d in errors)

    def sorted(self) -> tuple[Diagnostic, ...]:
        """Everything, in the order of the sources' names and positions."""

        def place(d: Diagnostic) -> tuple[str, int, int, str, str]:
            span = d.primary.span
            return (span.source, span.start, span.end, d.code, d.message)

        return tuple(sorted(self._found.values(), key=place))
