"""The results of examples, as data; no torch is needed to show them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

ORACLE = "oracle"


@dataclass(frozen=True)
class ExampleResult:
    """One example: who gave what is expected, and what others gave instead."""

    norm: str
    path: str
    line: int
    column: int
    passed: tuple[str, ...] = ()
    failures: Mapping[str, str] = field(default_factory=dict)

    @property
    def location(self) -> str:
        """`mine/a.norm:5:3`, as diagnostics begin."""
        return f"{self.path}:{self.line}:{self.column}"

    @property
    def good(self) -> bool:
        """Whether the oracle and every target gave what is expected."""
        return not self.failures and ORACLE in self.passed


def summary(results: Sequence[ExampleResult]) -> str:
    """`5 examples of 2 norms: all as expected`."""
    bad = sum(not result.good for result in results)
    norms = len({(result.path, result.norm) for result in results})
    counts = f"{_counted(len(results), 'example')} of {_counted(norms, 'norm')}"
    return f"{counts}: {f'{bad} NOT as expected' if bad else 'all as expected'}"


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
