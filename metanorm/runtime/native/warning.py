"""The one warning about missing kernels."""

from __future__ import annotations

import warnings

_warned = False


def warn_once(problem: str) -> None:
    """Say once in a process that norms are slower than they need be."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(
            f"metanorm runs without its kernels: {problem}. Norms work, but slower.",
            RuntimeWarning,
            stacklevel=4,
        )
