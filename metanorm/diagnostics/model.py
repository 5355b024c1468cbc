"""What a diagnostic is: data, never text.

Stages append `Problem`s (typed causes, one class per code) to a collector;
`Problem.diagnostic()` words them; the renderers in `render/` lay them out.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import ClassVar

from metanorm.source import Span

INTERNAL = "MN0000"  # the code of an error of the compiler itself


class Severity(str, Enum):
    """How bad it is: an error stops the compiler from writing, a warning does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True)
class Label:
    """A remark about a span of a source."""

    span: Span
    text: str = ""


class Applicability(str, Enum):
    """Who may apply a fix: a program, or a person who has read it.

    A safe fix keeps the meaning of the spec, or writes the only thing that the text can mean. An
    unsafe fix is a guess: the result may compute something else than its author meant.
    """

    SAFE = "safe"
    UNSAFE = "unsafe"


@dataclass(frozen=True)
class Fix:
    """An edit that resolves a diagnostic: `replacement` takes the place of the text of `span`.

    `title` describes the edit in an editor's menu.
    """

    span: Span
    replacement: str
    applicability: Applicability
    title: str


@dataclass(frozen=True)
class Diagnostic:
    """One finding: message, spans, notes and fixes, for any renderer."""

    code: str
    severity: Severity
    message: str
    primary: Label
    secondary: tuple[Label, ...] = ()
    notes: tuple[str, ...] = ()
    helps: tuple[str, ...] = ()
    fixes: tuple[Fix, ...] = ()  # the most likely one first; each alone resolves the diagnostic


class Problem:
    """The base of every error and warning class.

    A subclass is a frozen dataclass whose fields are the facts, whose first
    field is the `span` of the smallest text at fault, and whose docstring is
    its manual page: a first line that names the mistake, then the sections
    `What it means`, `Example` and `Fix`.
    """

    code: ClassVar[str]
    severity: ClassVar[Severity] = Severity.ERROR
    for_hub: ClassVar[bool] = False  # whether only `metanorm compile --hub` reports it
    span: Span

    def message(self) -> str:
        """The headline: lower case, no full stop, code in backticks."""
        raise NotImplementedError(type(self).__name__)

    def label(self) -> str:
        """The text beside the caret; empty if the headline suffices."""
        return ""

    def secondary(self) -> tuple[Label, ...]:
        """Other spans that explain the problem."""
        return ()

    def notes(self) -> tuple[str, ...]:
        """Facts that explain the problem."""
        return ()

    def helps(self) -> tuple[str, ...]:
        """What to do about it."""
        return ()

    def fixes(self) -> tuple[Fix, ...]:
        """Edits that resolve it, if there are any."""
        return ()

    def diagnostic(self) -> Diagnostic:
        """The problem as a diagnostic."""
        return Diagnostic(
            code=self.code,
            severity=self.severity,
            message=self.message(),
            primary=Label(span=self.span, text=self.label()),
            secondary=self.secondary(),
            notes=self.notes(),
            helps=self.helps(),
            fixes=self.fixes(),
        )


class Warn(Problem):
    """The base of every warning class."""

    severity: ClassVar[Severity] = Severity.WARNING
