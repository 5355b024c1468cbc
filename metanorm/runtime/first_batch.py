"""Initializes parameters and buffers from the first batch in training."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from metanorm.runtime.state import demand_same_shape, demand_writable


def take_(target: Tensor | None, value: Tensor) -> None:
    """Store a value into a parameter or a buffer, without gradient; `None` is skipped.

    If several processes train together, all take the value of the first process, so that their
    parameters stay equal. All must start with the same call.

    Raises `ShapeError` for a value of another shape.
    """
    if target is None:
        return
    demand_same_shape(target, value)
    with torch.no_grad():
        demand_writable(target.detach())
        target.copy_(value)
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(target.detach(), 0)
