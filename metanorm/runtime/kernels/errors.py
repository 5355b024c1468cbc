"""Why no kernel runs: it does not support the call, or it cannot be built."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


class Unsupported(Exception):
    """A kernel cannot take these arguments; torch runs the call instead. `str` is the reason."""


class CannotBuild(Exception):
    """No library could be built here: the reason, and what a person can do about it.

    `rejected` says that a compiler which works rejects the kernels: they are at fault, not what is
    installed.
    """

    def __init__(self, reason: str, remedy: str, rejected: bool = False) -> None:
        super().__init__(reason, remedy, rejected)  # as arguments, so that it can be pickled
        self.reason = reason
        self.remedy = remedy
        self.rejected = rejected

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class MissingKernels(RuntimeWarning):
    """Kernels cannot be built here; `problem` is the reason and the remedy."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"metanorm runs without its kernels: {problem}. Norms work, but slower.")
        self.problem = problem


_warned = False
_records: list[list[CannotBuild]] = []


def warn_once(problem: CannotBuild) -> None:
    """Warn, once in a process, that norms run slower than they could."""
    global _warned
    for record in _records:
        record.append(problem)
    if not _warned:
        _warned = True
        warnings.warn(MissingKernels(str(problem)), stacklevel=4)


@contextmanager
def failures_recorded() -> Iterator[list[CannotBuild]]:
    """Record every failure to build kernels in a `with`, be there a warning or not."""
    record: list[CannotBuild] = []
    _records.append(record)
    try:
        yield record
    finally:
        _records.remove(record)
