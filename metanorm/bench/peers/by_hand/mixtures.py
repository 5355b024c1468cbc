"""Norms with several sets of statistics, of which each sample has a share."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.peers.by_hand.parameters import move, ones, unbiased, zeros
from metanorm.bench.peers.by_hand.samples import mean_and_square, rescaled, variance


class ModeNorm(nn.Module):
    """The statistics of each mode are matrix products of gates with those of samples."""

    def __init__(self, channels: int, modes: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = ones(channels), zeros(channels)
        self.gate_weight = nn.Parameter(torch.randn(modes, channels) * 0.01 + 1 / modes)
        self.gate_bias = zeros(modes)
        self.register_buffer("running_mean", torch.zeros(modes, channels))
        self.register_buffer("running_var", torch.ones(modes, channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Takes [N, C, *]."""
        own_mean, own_square = mean_and_square(x)
        gates = functional.linear(own_mean, self.gate_weight, self.gate_bias).softmax(1)
        if self.training:
            mean, var = self._measured(own_mean, own_square, gates, x[0, 0].numel())
        else:
            mean, var = self.running_mean, self.running_var
        inverse = torch.rsqrt(var + self.eps)
        scale = (gates @ inverse) * self.weight
        shift = self.bias - (gates @ (mean * inverse)) * self.weight
        return rescaled(x, scale, shift)

    def _measured(
        self, own_mean: Tensor, own_square: Tensor, gates: Tensor, pixels: int
    ) -> tuple[Tensor, Tensor]:
        weights = gates.sum(0)
        shares = (gates / weights).T
        mean = shares @ own_mean
        var = variance(mean, shares @ own_square)
        with torch.no_grad():
            count = weights[:, None] * pixels
            wider = torch.where(count > 1, var * (count / (count - 1)), var)
        move(self.running_mean, mean, self.momentum)
        move(self.running_var, wider, self.momentum)
        return mean, var


class DiffGroupNorm(nn.Module):
    """Batch norms of soft groups of nodes, as matrix products: no node is there once per group."""

    def __init__(
        self, channels: int, groups: int,
        lamda: float = 0.01, eps: float = 1e-5, momentum: float = 0.1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.lamda, self.eps, self.momentum = lamda, eps, momentum
        self.weight, self.bias = ones(channels, groups), zeros(channels, groups)
        self.lin = nn.Parameter(nn.Linear(channels, groups).weight.detach())
        self.register_buffer("running_mean", torch.zeros(groups, channels))
        self.register_buffer("running_var", torch.ones(groups, channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Nodes are rows."""
        shares = functional.linear(x, self.lin).softmax(1)
        mean, var = self._measured(x, shares) if self.training else self._kept()
        scale = self.weight.T * torch.rsqrt(var + self.eps)
        shift = self.lamda * (self.bias.T - mean * scale).sum(0)
        return torch.addcmul(shift, x, 1 + self.lamda * (shares @ scale))

    def _measured(self, x: Tensor, shares: Tensor) -> tuple[Tensor, Tensor]:
        nodes = len(x)
        mean = shares.T @ x / nodes
        var = variance(mean, shares.square().T @ x.square() / nodes)
        move(self.running_mean, mean, self.momentum)
        move(self.running_var, unbiased(var, nodes), self.momentum)
        return mean, var

    def _kept(self) -> tuple[Tensor, Tensor]:
        return self.running_mean, self.running_var


class SparseSwitchNorm(nn.Module):
    """Instance, layer and batch norm, mixed by sparsemax: all statistics follow from the first."""

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        self.eps, self.momentum = eps, momentum
        self.weight, self.bias = ones(channels), zeros(channels)
        self.mean_weight, self.var_weight = ones(3), ones(3)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor) -> Tensor:
        """Takes [N, C, *]."""
        mean, square = mean_and_square(x)
        var = variance(mean, square)
        layer_mean = mean.mean(1, keepdim=True)
        layer_var = variance(layer_mean, square.mean(1, keepdim=True))
        if self.training:
            batch_mean = mean.mean(0)
            batch_var = variance(batch_mean, square.mean(0))
            move(self.running_mean, batch_mean, self.momentum)
            count = x.numel() // x.shape[1]
            move(self.running_var, unbiased(batch_var, count), self.momentum)
        else:
            batch_mean, batch_var = self.running_mean, self.running_var
        of = sparsemax(self.mean_weight)
        mixed_mean = of[0] * mean + of[1] * layer_mean + of[2] * batch_mean
        of = sparsemax(self.var_weight)
        mixed_var = of[0] * var + of[1] * layer_var + of[2] * batch_var
        scale = torch.rsqrt(mixed_var + self.eps) * self.weight
        shift = self.bias - mixed_mean * scale
        return rescaled(x, scale, shift)


def sparsemax(x: Tensor) -> Tensor:
    """The nearest point of the simplex, as Martins and Astudillo find it by sorting."""
    ordered = x.sort(descending=True).values
    sums = ordered.cumsum(0) - 1
    ranks = torch.arange(1, len(x) + 1, dtype=x.dtype, device=x.device)
    support = (ranks * ordered > sums).sum()
    return (x - sums[support - 1] / support).clamp(min=0)
