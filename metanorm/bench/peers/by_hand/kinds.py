"""Norms of samples or nodes of several kinds: domains, and types of nodes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.peers.by_hand.conditional import RANKS
from metanorm.bench.peers.by_hand.parameters import ones, zeros
from metanorm.bench.peers.by_hand.samples import mean_and_square, rescaled, variance


class CycleBatchNorm(nn.Module):
    """A batch norm without parameters for each domain, and one set of parameters for all.

    That is the `CycleBatchNormList` of detectron2, for batches in which domains are mixed.
    """

    def __init__(self, rank: int, domains: int, channels: int) -> None:
        super().__init__()
        kind = getattr(nn, f"BatchNorm{RANKS[rank]}")
        self.norms = nn.ModuleList(kind(channels, affine=False) for _ in range(domains))
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """The samples of each domain are taken together, and go back to their places."""
        rows = [(domain == number).nonzero().squeeze(1) for number in range(len(self.norms))]
        parts = [
            norm(x.index_select(0, domain_rows))
            for norm, domain_rows in zip(self.norms, rows)
            if domain_rows.numel()
        ]
        y = torch.cat(parts).index_select(0, torch.cat(rows).argsort())
        return rescaled(y, self.weight[None], self.bias[None])


class _OfKinds(nn.Module):
    """Running statistics for each kind, which stay where a batch has none of it."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, number: int, channels: int, eps: float, momentum: float) -> None:
        super().__init__()
        self.number, self.eps, self.momentum = number, eps, momentum
        self.register_buffer("running_mean", torch.zeros(number, channels))
        self.register_buffer("running_var", torch.ones(number, channels))

    @torch.no_grad()
    def keep(self, mean: Tensor, var: Tensor, count: Tensor) -> None:
        """Move the running statistics of those kinds that are there."""
        momentum = self.momentum * (count > 0)
        unbiased = var * (count / (count - 1).clamp(min=1))
        self.running_mean += momentum * (mean - self.running_mean)
        self.running_var += momentum * (unbiased - self.running_var)


class DomainBatchNorm(_OfKinds):
    """The moments of domains are sums of those of samples, which are few."""

    def __init__(
        self, domains: int, channels: int, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__(domains, channels, eps, momentum)
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        """Takes [N, C, *] and [N]."""
        if self.training:
            samples = torch.bincount(domain, minlength=self.number)[:, None].to(x.dtype)
            batch_moments = torch.cat(mean_and_square(x), 1)
            added = batch_moments.new_zeros(self.number, batch_moments.shape[1]).index_add(
                0, domain, batch_moments
            )
            mean, square = (added / samples.clamp(min=1)).chunk(2, 1)
            var = variance(mean, square)
            self.keep(mean, var, samples * x[0, 0].numel())
        else:
            mean, var = self.running_mean, self.running_var
        scale = self.weight * torch.rsqrt(var + self.eps)
        shift = self.bias - mean * scale
        return rescaled(x, scale.index_select(0, domain), shift.index_select(0, domain))


class HeteroLayerNorm(nn.Module):
    """`layer_norm` without parameters, and those that each node looks up by its type."""

    def __init__(self, types: int, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = ones(types, channels), zeros(types, channels)

    def forward(self, x: Tensor, type: Tensor) -> Tensor:
        """Nodes are rows."""
        weight, bias = (functional.embedding(type, t) for t in (self.weight, self.bias))
        return functional.layer_norm(x, x.shape[1:]) * weight + bias


class HeteroBatchNorm(_OfKinds):
    """Statistics as products with a matrix that says who is of which type: there are few types.

    They have no gradient.
    """

    def __init__(self, types: int, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(types, channels, eps, momentum)
        self.weight, self.bias = ones(types, channels), zeros(types, channels)

    def forward(self, x: Tensor, type: Tensor) -> Tensor:
        """Nodes are rows."""
        mean, var = self._measured(x, type) if self.training else self._kept()
        scale = self.weight * torch.rsqrt(var.clamp(min=self.eps))
        shift = self.bias - mean * scale
        return x * functional.embedding(type, scale) + functional.embedding(type, shift)

    @torch.no_grad()
    def _measured(self, x: Tensor, type: Tensor) -> tuple[Tensor, Tensor]:
        of_type = functional.one_hot(type, self.number).to(x.dtype).T
        count = of_type.sum(1, keepdim=True)
        mean, square = (of_type @ part / count.clamp(min=1) for part in (x, x.square()))
        var = variance(mean, square)
        self.keep(mean, var, count)
        return mean, var

    def _kept(self) -> tuple[Tensor, Tensor]:
        return self.running_mean, self.running_var
