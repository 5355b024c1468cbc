"""Norms whose scale and shift each sample looks up by its class."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.peers.by_hand.parameters import move, ones, unbiased, zeros
from metanorm.bench.peers.by_hand.samples import mean_and_square, rescaled, variance

SPATIAL = {3: "1d", 4: "2d", 5: "3d"}  # how torch calls what takes inputs of these ranks
RANKS = {2: "1d", **SPATIAL}


class _Conditional(nn.Module):
    """A table of scales and one of shifts."""

    def __init__(self, classes: int, channels: int) -> None:
        super().__init__()
        self.gamma, self.beta = ones(classes, channels), zeros(classes, channels)

    def looked_up(self, label: Tensor) -> tuple[Tensor, Tensor]:
        """As `nn.Embedding` does: shape [N, C] each."""
        return functional.embedding(label, self.gamma), functional.embedding(label, self.beta)


class LayerAndEmbeddings(_Conditional):
    """A layer of torch without parameters, and `nn.Embedding` twice."""

    def __init__(self, norm: nn.Module, classes: int, channels: int) -> None:
        super().__init__(classes, channels)
        self.norm = norm

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Takes [N, C, *] and [N]."""
        return rescaled(self.norm(x), *self.looked_up(label))


def batch_norm_and_embeddings(rank: int, classes: int, channels: int) -> nn.Module:
    """`nn.BatchNorm2d` or that of another rank."""
    norm = getattr(nn, f"BatchNorm{RANKS[rank]}")(channels, affine=False)
    return LayerAndEmbeddings(norm, classes, channels)


def instance_norm_and_embeddings(rank: int, classes: int, channels: int) -> nn.Module:
    """`nn.InstanceNorm2d` or that of another rank. Raises `KeyError` for rows of features."""
    norm = getattr(nn, f"InstanceNorm{SPATIAL[rank]}")(channels)
    return LayerAndEmbeddings(norm, classes, channels)


def group_norm_and_embeddings(groups: int, classes: int, channels: int) -> nn.Module:
    """`nn.GroupNorm`, which is quick on CPUs."""
    return LayerAndEmbeddings(nn.GroupNorm(groups, channels, affine=False), classes, channels)


class ConditionalBatchNorm(_Conditional):
    """The norm folded into the scale and the shift: images are written once."""

    def __init__(
        self, classes: int, channels: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(classes, channels)
        self.eps, self.momentum = eps, momentum
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Takes [N, C, *] and [N]."""
        if self.training:
            mean, square = (part.mean(0) for part in mean_and_square(x))
            var, count = variance(mean, square), x.numel() // x.shape[1]
            move(self.running_mean, mean, self.momentum)
            move(self.running_var, unbiased(var, count), self.momentum)
        else:
            mean, var = self.running_mean, self.running_var
        gamma, beta = self.looked_up(label)
        scale = gamma * torch.rsqrt(var + self.eps)
        return rescaled(x, scale, beta - mean * scale)


class ConditionalInstanceNorm(_Conditional):
    """A batch norm of one sample whose channels are those of all samples."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        """Takes [N, C, *] and [N]."""
        gamma, beta = (part.flatten() for part in self.looked_up(label))
        joined = x.reshape(1, -1, *x.shape[2:])
        return functional.batch_norm(joined, None, None, gamma, beta, training=True).view_as(x)
