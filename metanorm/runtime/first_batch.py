"""Parameters and buffers that take their values from the first batch in training."""

from __future__ import annotations

import torch
from torch import Tensor, distributed

from metanorm.runtime.state import demand_same_shape, demand_writable


def take_(kept: Tensor | None, value: Tensor) -> None:
    """Store a value into a parameter or a buffer, without gradient; none into one that is absent.

    Where several processes train together, all of them get the value of the first one, so that
    their parameters stay alike. All must then begin with the same call.

    Raises `ShapeError` where it has another shape than the value.
    """
    if kept is None:
        return
    demand_same_shape(kept, value)
    with torch.no_grad():
        demand_writable(kept.detach())
        kept.copy_(value)
        if distributed.is_available() and distributed.is_initialized():
            distributed.broadcast(kept.detach(), 0)
