"""A mode in which running statistics average over all batches, whatever their momentum."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Other threads may train other models. Not a `ContextVar`, which torch.compile cannot read.
_this_thread = threading.local()


def batches_averaged() -> Tensor | None:
    """The number of batches before this one, inside of `average_all_batches`; else `None`."""
    return getattr(_this_thread, "batches", None)


@contextmanager
def average_all_batches() -> Iterator[Tensor]:
    """Give all batches the same weight in the running statistics of generated norms.

    Yields the number of batches so far; the caller counts it up in place.
    """
    outer, batches = batches_averaged(), torch.tensor(0, device="cpu")
    _this_thread.batches = batches
    try:
        yield batches
    finally:
        _this_thread.batches = outer
