"""Norms of sequences: over all that came before, and over the features of tokens."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from metanorm.bench.peers.by_hand.parameters import ones, zeros


class CumulativeLayerNorm(nn.Module):
    """Sums of channels and of their squares, added up along the sequence."""

    def __init__(self, channels: int, eps: float = 1e-8) -> None:
        super().__init__()
        self.eps = eps
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Takes [N, C, T]."""
        counts = x.shape[1] * torch.arange(1, x.shape[2] + 1, dtype=x.dtype, device=x.device)
        sums = torch.stack((x.sum(1), x.square().sum(1)))
        mean, square = (sums.cumsum(-1) / counts).unbind()
        scale = torch.rsqrt((square - mean.square()).clamp(min=0) + self.eps)
        y = (x - mean[:, None]) * scale[:, None]
        return y * self.weight[:, None] + self.bias[:, None]


class LlamaRMSNorm(nn.Module):
    """The formula of `LlamaRMSNorm` in transformers: rounded before the weight."""

    def __init__(self, length: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps, self.weight = eps, ones(length)

    def forward(self, x: Tensor) -> Tensor:
        """Computes in float32, or in float64 where that is given."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance = wide.pow(2).mean(-1, keepdim=True)
        return self.weight * (wide * torch.rsqrt(variance + self.eps)).to(x.dtype)


class T5LayerNorm(LlamaRMSNorm):
    """The formula of `T5LayerNorm` in transformers: rounded to the weight's type."""

    def forward(self, x: Tensor) -> Tensor:
        """The mean of squares is taken in float32, or in float64 where that is given."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        variance = wide.pow(2).mean(-1, keepdim=True)
        y = x * torch.rsqrt(variance + self.eps)
        if self.weight.dtype in (torch.float16, torch.bfloat16):
            y = y.to(self.weight.dtype)
        return self.weight * y
