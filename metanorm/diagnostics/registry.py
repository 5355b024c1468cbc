"""The table of all error and warning classes, and the manual page of each.

`@problem("MN0302")` registers a class. The checker, `metanorm explain`, the documentation and
SARIF read the same table.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

from metanorm import diagnostics
from metanorm.diagnostics.model import Problem, Severity

P = TypeVar("P", bound=type[Problem])

REGISTRY: dict[str, type[Problem]] = {}


def problem(code: str) -> Callable[[P], P]:
    """Register a problem class under its code. Codes are unique and never change."""

    def register(cls: P) -> P:
        if code in REGISTRY:
            raise ValueError(f"{code} is both {REGISTRY[code].__name__} and {cls.__name__}")
        cls.code = code
        REGISTRY[code] = cls
        return cls

    return register


@dataclass(frozen=True)
class ManualPage:
    """A code's page: its title line and its body in Markdown."""

    code: str
    severity: Severity
    title: str
    body: str

    @property
    def markdown(self) -> str:
        """The whole page."""
        return f"## {self.code}: {self.title}\n\n*{self.severity.value}*\n\n{self.body}\n"

    @property
    def bad(self) -> str:
        """The spec that shows the mistake: the first fenced block of the page."""
        return self._fence(1)

    @property
    def good(self) -> str:
        """The spec that shows how it is meant: the second one."""
        return self._fence(2)

    def _fence(self, number: int) -> str:
        return self.body.split("```norm\n")[number].split("```")[0]


def manual_page(code: str) -> ManualPage:
    """The page of `code`; `KeyError` where there is no such code."""
    _import_problem_modules()
    cls = REGISTRY[code]
    title, _, body = inspect.cleandoc(cls.__doc__ or "").partition("\n")
    return ManualPage(code, cls.severity, title.rstrip("."), body.strip())


def all_codes() -> list[str]:
    """Every code, in order."""
    _import_problem_modules()
    return sorted(REGISTRY)


def _import_problem_modules() -> None:
    """Import all modules of this package, which registers their classes."""
    for module in iter_modules(diagnostics.__path__):
        import_module(f"{diagnostics.__name__}.{module.name}")
