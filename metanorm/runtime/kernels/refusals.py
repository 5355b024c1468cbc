"""Why kernels do not serve a call: it does not fit them, or there are none, which is said once."""

from __future__ import annotations

import warnings


class Unfit(Exception):
    """A kernel cannot read this tensor where it lies; the torch target serves it."""


class CannotBuild(Exception):
    """No library could be made here: why, and what a person can do about it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason, remedy)  # as given, so that it can be pickled
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.reason}; {self.remedy}"


class MissingKernels(RuntimeWarning):
    """Kernels cannot be built here; `problem` says why, and what to do about it."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"metanorm runs without its kernels: {problem}. Norms work, but slower.")
        self.problem = problem


_warned = False


def warn_once(problem: str) -> None:
    """Say once in a process that norms are slower than they need be."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(MissingKernels(problem), stacklevel=4)
