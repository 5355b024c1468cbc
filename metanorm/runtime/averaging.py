"""Whether running statistics average over all batches now, whatever their momentum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

_averaging = False


def is_averaging() -> bool:
    """Whether `all_alike` is in force."""
    return _averaging


@contextmanager
def all_alike() -> Iterator[None]:
    """Have all batches weigh alike in the running statistics of generated norms."""
    global _averaging
    before, _averaging = _averaging, True
    try:
        yield
    finally:
        _averaging = before
