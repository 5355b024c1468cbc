"""The one warning about missing kernels."""

from __future__ import annotations

import warnings


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
