"""Errors of the compiler itself, as distinct from mistakes in a spec."""

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
    location: str

    def message(self) -> str:
        return f"internal error: {self.error}"

    def notes(self) -> tuple[str, ...]:
        return (f"metanorm failed in {self.location}",)

    def helps(self) -> tuple[str, ...]:
        return (
            "this is a bug in metanorm, not in your spec: please report it, with what "
            f"`metanorm repro {self.span.source}` prints",
        )


@contextmanager
def guarded(problems: Collector, span: Span) -> Iterator[None]:
    """Turn an exception inside the block into a problem at `span`, so that the run continues.

    With METANORM_DEBUG set, the exception is raised unchanged.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get("METANORM_DEBUG"):
            raise
        innermost_frame = traceback.extract_tb(error.__traceback__)[-1]
        location = f"{os.path.basename(innermost_frame.filename)}, line {innermost_frame.lineno}"
        description = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        problems.add(CompilerFailed(span, description, location))
