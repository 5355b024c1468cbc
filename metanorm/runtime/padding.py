"""Tensors with further positions along one dimension, or moved on by one."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import pad


def padded(x: Tensor, dim: int, before: int, behind: int, value: float = 0.0) -> Tensor:
    """The tensor with `before` and `behind` further positions of a value, or fewer if negative."""
    return pad(x, (0, 0) * (x.dim() - 1 - dim) + (before, behind), value=value)


def shifted(x: Tensor, dim: int, first: float = 0.0) -> Tensor:
    """The tensor moved on by one position, with `first` in front."""
    return padded(x, dim, 1, 0, first).narrow(dim, 0, x.shape[dim])
