"""Why no kernel runs: it does not support the call, or it cannot be built."""

from __future__ import annotations

import warnings


class Unsupported(Exception):
    """A kernel cannot take these arguments; torch runs the call instead. `str` is the reason."""


class CannotBuild(Exception):
    """No library could be built here: the reason, and what a person can do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)  # as arguments, so that it can be pickled
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class MissingKernels(RuntimeWarning):
    """Kernels cannot be built here; `problem` is the reason and the remedy."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"metanorm runs without its kernels: {problem}. Norms work, but slower.")
        self.problem = problem


_warned = False


def warn_once(problem: str) -> None:
    """Warn, once in a process, that norms run slower than they could."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(MissingKernels(problem), stacklevel=4)
