"""Whether running statistics average over all batches now, whatever their momentum."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

# Another thread may train another model meanwhile. No `ContextVar`: torch.compile cannot read one.
_this_thread = threading.local()


def batches_averaged() -> Tensor | None:
    """The number of batches before this one, where `average_all_batches` is in force."""
    return getattr(_this_thread, "batches", None)


@contextmanager
def average_all_batches() -> Iterator[Tensor]:
    """Have all batches weigh alike in the running statistics of generated norms.

    Gives the number of batches so far, which the caller counts in place, as norms count their own.
    """
    before, batches = batches_averaged(), torch.tensor(0, device="cpu")
    _this_thread.batches = batches
    try:
        yield batches
    finally:
        _this_thread.batches = before
