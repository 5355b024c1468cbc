"""What layers begin with, and how running statistics move."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ones(*shape: int) -> nn.Parameter:
    """A scale to be learned."""
    return nn.Parameter(torch.ones(shape))


def zeros(*shape: int) -> nn.Parameter:
    """A shift to be learned."""
    return nn.Parameter(torch.zeros(shape))


@torch.no_grad()
def move(running: Tensor, value: Tensor, momentum: float) -> None:
    """Bring a running statistic nearer to that of a batch, in place."""
    running.lerp_(value.to(running.dtype), momentum)


def unbiased(variance: Tensor, count: int) -> Tensor:
    """What running variances move towards."""
    return variance * (count / max(count - 1, 1))
