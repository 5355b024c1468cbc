"""An error of the compiler itself, told apart from everything that a spec can have wrong."""

from __future__ import annotations

import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.model import INTERNAL, Problem
from metanorm.source import Span


@dataclass(frozen=True)
class CompilerFailed(Problem):
    """The compiler failed on a spec. It has no page in the manual: the spec needs no mending."""

    code = INTERNAL

    span: Span
    error: str
    place: str

    def message(self) -> str:
        return f"internal error: {self.error}"

    def notes(self) -> tuple[str, ...]:
        return (f"metanorm failed in {self.place}",)

    def helps(self) -> tuple[str, ...]:
        return (
            "this is a bug in metanorm, not in your spec: please report it, with what "
            f"`metanorm repro {self.span.source}` prints",
        )


@contextmanager
def guarded(problems: Collector, span: Span) -> Iterator[None]:
    """What fails inside is a problem at `span`; the rest of the run goes on.

    With METANORM_DEBUG it is raised as it is.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get("METANORM_DEBUG"):
            raise
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{os.path.basename(last.filename)}, line {last.lineno}"
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        problems.add(CompilerFailed(span, said, place))
