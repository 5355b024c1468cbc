"""What each sample has in each channel, for norms that read images only once."""

from __future__ import annotations

import torch
from torch import Tensor


def mean_and_square(x: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the mean square over all axes behind the second: shape [N, C].

    On CPUs `vector_norm` takes a tenth of the time of `var_mean`.
    """
    if x.dim() == 2:
        return x, x.square()
    space = tuple(range(2, x.dim()))
    square = torch.linalg.vector_norm(x, dim=space).square() / x[0, 0].numel()
    return x.mean(space), square


def variance(mean: Tensor, square: Tensor) -> Tensor:
    """The biased variance, which rounding must not make negative."""
    return (square - mean.square()).clamp(min=0)


def over_space(values: Tensor, like: Tensor) -> Tensor:
    """Values for the leading dimensions of a tensor, lined up with them."""
    return values.view(*values.shape, *(1,) * (like.dim() - values.dim()))


def rescaled(x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """scale * x + shift, with values for each sample and channel, or for each channel: [1, C]."""
    return x * over_space(scale, x) + over_space(shift, x)
