"""A seed under which a module and the oracle draw the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

SEED = 3


@contextmanager
def seeded(device: torch.device) -> Iterator[None]:
    """Draw as if a program had just begun, and leave the generators as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(SEED)
        yield
