"""Norms of graphs, by sums over what an index names.

Who takes the sums is given: `index_add` of torch, or `scatter` of torch-scatter.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.peers.by_hand.parameters import ones, zeros

Sums = Callable[[Tensor, Tensor, int], Tensor]  # of values, by an index, for so many groups


def index_add(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sums of rows by torch itself."""
    return values.new_zeros(count, *values.shape[1:]).index_add(0, index, values)


def scatter(values: Tensor, index: Tensor, count: int) -> Tensor:
    """Sums of rows as code for graphs takes them, by torch-scatter."""
    sums: Tensor = import_module("torch_scatter").scatter(
        values, index, dim=0, dim_size=count, reduce="sum"
    )
    return sums


def _sizes(values: Tensor, index: Tensor, count: int) -> Tensor:
    """How many rows each group has, one at least: shape [groups, 1]."""
    return torch.bincount(index, minlength=count).clamp(min=1).to(values.dtype)[:, None]


class GraphNorm(nn.Module):
    """Each graph less a learned share of its mean, by its deviation from that."""

    def __init__(self, sums: Sums, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.sums, self.eps = sums, eps
        self.weight, self.bias, self.mean_scale = ones(channels), zeros(channels), ones(channels)

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows."""
        sizes = _sizes(x, batch, batch_size)
        mean = self.sums(x, batch, batch_size) / sizes
        centred = x - (self.mean_scale * mean).index_select(0, batch)
        var = self.sums(centred.square(), batch, batch_size) / sizes
        scale = self.weight * torch.rsqrt(var + self.eps)
        return torch.addcmul(self.bias, centred, scale.index_select(0, batch))


class GraphInstanceNorm(nn.Module):
    """Each graph less its mean, by its deviation; nothing is learned."""

    def __init__(self, sums: Sums, eps: float = 1e-5) -> None:
        super().__init__()
        self.sums, self.eps = sums, eps

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows."""
        sizes = _sizes(x, batch, batch_size)
        centred = x - (self.sums(x, batch, batch_size) / sizes).index_select(0, batch)
        var = self.sums(centred.square(), batch, batch_size) / sizes
        return centred * torch.rsqrt(var + self.eps).index_select(0, batch)


class GraphLayerNorm(nn.Module):
    """Each graph over all of its nodes and features, whose sums are numbers for each node."""

    def __init__(self, sums: Sums, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.sums, self.eps = sums, eps
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows."""
        sizes = _sizes(x, batch, batch_size)
        means = self.sums(x.mean(1, keepdim=True), batch, batch_size) / sizes
        centred = x - means.index_select(0, batch)
        squares = centred.square().mean(1, keepdim=True)
        var = self.sums(squares, batch, batch_size) / sizes
        y = centred * torch.rsqrt(var + self.eps).index_select(0, batch)
        return torch.addcmul(self.bias, self.weight, y)


class MeanSubtractionNorm(nn.Module):
    """Each graph less its mean."""

    def __init__(self, sums: Sums) -> None:
        super().__init__()
        self.sums = sums

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows."""
        mean = self.sums(x, batch, batch_size) / _sizes(x, batch, batch_size)
        return x - mean.index_select(0, batch)


class PairNorm(nn.Module):
    """Each graph less its mean, by the root of its mean square; or each node by its length."""

    def __init__(self, sums: Sums, individually: bool, scale: float = 1, eps: float = 1e-5) -> None:
        super().__init__()
        self.sums, self.individually, self.scale, self.eps = sums, individually, scale, eps

    def forward(self, x: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows."""
        sizes = _sizes(x, batch, batch_size)
        centred = x - (self.sums(x, batch, batch_size) / sizes).index_select(0, batch)
        if self.individually:
            lengths = torch.linalg.vector_norm(centred, dim=1, keepdim=True)
            scale_of_node: Tensor = self.scale / (self.eps + lengths)
            return centred * scale_of_node
        squares = centred.square().sum(1, keepdim=True)
        spread = self.sums(squares, batch, batch_size) / sizes
        scale = self.scale * torch.rsqrt(spread + self.eps)
        return centred * scale.index_select(0, batch)


class AdjacencyNorm(nn.Module):
    """Each node by the features of itself and its in-neighbours, whose sums are two numbers."""

    def __init__(self, sums: Sums, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.sums, self.eps = sums, eps
        self.weight, self.bias = ones(channels), zeros(channels)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        """Nodes are rows; edges go from the first row of `edge_index` to the second."""
        y = _beside_neighbours(self.sums, x, edge_index, self.eps)
        return torch.addcmul(self.bias, self.weight, y)


def _beside_neighbours(sums: Sums, x: Tensor, edge_index: Tensor, eps: float) -> Tensor:
    (nodes, channels), (source, target) = x.shape, edge_index
    own_sums = torch.stack((x.sum(1), x.square().sum(1)), 1)
    added = own_sums + sums(own_sums.index_select(0, source), target, nodes)
    sizes = channels * (1 + torch.bincount(target, minlength=nodes))
    mean, square = (added / sizes[:, None]).unbind(1)
    scale = torch.rsqrt((square - mean.square()).clamp(min=0) + eps)
    return (x - mean[:, None]) * scale[:, None]


Shares = Callable[[Tensor, float], Tensor]  # of four weights for each feature


def as_given(weights: Tensor, eps: float) -> Tensor:
    """The weights are the shares."""
    return weights


def of_total(weights: Tensor, eps: float) -> Tensor:
    """The shares sum to one."""
    return weights / weights.sum(0).clamp(min=eps)


def softmax(weights: Tensor, eps: float) -> Tensor:
    """The shares sum to one and are positive."""
    return weights.softmax(0)


class UnitedNorm(nn.Module):
    """Node, adjacency, graph and batch norm, mixed for each feature."""

    def __init__(
        self, sums: Sums, channels: int, shares: Shares, eps: float = 1e-5, momentum: float = 0.1
    ) -> None:
        super().__init__()
        self.sums, self.shares, self.eps, self.momentum = sums, shares, eps, momentum
        self.weight, self.bias = ones(channels), zeros(channels)
        self.lambda_node, self.lambda_adjacency = ones(channels), ones(channels)
        self.lambda_graph, self.lambda_batch = ones(channels), ones(channels)
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.running_mean: Tensor
        self.running_var: Tensor

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor, batch_size: int) -> Tensor:
        """Nodes are rows. A graph of one node is its own mean: the graph norm leaves nothing."""
        lambdas = (self.lambda_node, self.lambda_adjacency, self.lambda_graph, self.lambda_batch)
        of_node, of_adjacency, of_graph, of_batch = self.shares(torch.stack(lambdas), self.eps)
        node = functional.layer_norm(x, x.shape[1:], of_node, None, self.eps)
        whole = functional.batch_norm(
            x, self.running_mean, self.running_var, of_batch, None,
            self.training, self.momentum, self.eps,
        )  # fmt: skip
        sizes = _sizes(x, batch, batch_size)
        centred = x - (self.sums(x, batch, batch_size) / sizes).index_select(0, batch)
        var = self.sums(centred.square(), batch, batch_size) / sizes
        scale = of_graph * torch.rsqrt(var + self.eps)
        united = torch.addcmul(node + whole, centred, scale.index_select(0, batch))
        adjacency = _beside_neighbours(self.sums, x, edge_index, self.eps)
        united = torch.addcmul(united, of_adjacency, adjacency)
        return torch.addcmul(self.bias, self.weight, united)
