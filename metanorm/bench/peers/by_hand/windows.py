"""Norms over windows of images."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.peers.by_hand.parameters import ones, zeros
from metanorm.bench.peers.by_hand.samples import rescaled


def window_means(x: Tensor, width: int) -> Tensor:
    """The mean over what a window holds around each position of the last two axes.

    From sums up to each position, which take no longer for wide windows; `avg_pool2d` adds up every
    window for itself.
    """
    for dim in (-1, -2):
        length = x.shape[dim]
        position = torch.arange(length, device=x.device)
        first = (position - width // 2).clamp(min=0)
        behind = (position + (width + 1) // 2).clamp(max=length)
        size = (behind - first).to(x.dtype)
        sums = functional.pad(x.cumsum(dim), (1, 0) if dim == -1 else (0, 0, 1, 0))
        added = sums.index_select(dim, behind) - sums.index_select(dim, first)
        x = added / (size if dim == -1 else size[:, None])
    return x


class LocalContextNorm(nn.Module):
    """Means over windows of images and of squared images, within groups of channels."""

    def __init__(self, channels: int, grouped: int, width: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.grouped, self.width, self.eps = grouped, width, eps
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images."""
        grouped = x.reshape(len(x), -1, self.grouped, *x.shape[2:])
        means = torch.cat((grouped.mean(2), grouped.square().mean(2)), 1)
        mean, square = window_means(means, self.width).chunk(2, 1)
        scale = torch.rsqrt((square - mean.square()).clamp(min=0) + self.eps)
        y = ((grouped - mean[:, :, None]) * scale[:, :, None]).flatten(1, 2)
        return rescaled(y, self.weight[None], self.bias[None])


class DivisiveNorm(nn.Module):
    """The image less its local mean over all channels, by the root of its local energy.

    Windows are small, and all channels are pooled, which `avg_pool2d` is quick enough for.
    """

    def __init__(self, channels: int, near: int, around: int, eps: float = 1) -> None:
        super().__init__()
        self.near, self.around, self.eps = near, around, eps
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Takes images."""
        centred = x - _pooled(x.mean(1, keepdim=True), self.near)
        energy = _pooled(centred.square().mean(1, keepdim=True), self.around)
        y = centred * torch.rsqrt(energy + self.eps)
        return rescaled(y, self.weight[None], self.bias[None])


def _pooled(x: Tensor, width: int) -> Tensor:
    """Zeros beyond the border count; an even window has one position more."""
    pooled = functional.avg_pool2d(x, width, 1, width // 2)
    return pooled[..., : x.shape[-2], : x.shape[-1]]
