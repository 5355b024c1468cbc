"""The table of networks to time. Each row names a norm of the library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.networks.graphs import GIN, OverNodes, random_graphs
from metanorm.bench.networks.images import Digits, ResNet
from metanorm.bench.networks.text import Transformer
from metanorm.bench.peers.peer import Arguments, Shape

Norm = Callable[[int], nn.Module]


@dataclass(frozen=True)
class Batch:
    """The inputs of a network, and the target class of each of its outputs."""

    inputs: tuple[Any, ...]
    target: Tensor

    def to(self, dtype: torch.dtype) -> Batch:
        """The batch with another floating-point dtype."""
        return Batch(tuple(_to_dtype(x, dtype) for x in self.inputs), self.target)

    def on(self, device: str) -> Batch:
        """The batch on a device."""
        inputs = tuple(x.to(device) if isinstance(x, Tensor) else x for x in self.inputs)
        return Batch(inputs, self.target.to(device))


def _to_dtype(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x


@dataclass(frozen=True)
class NormKind:
    """A norm of the library, constructed from the length of its axis.

    `arguments` are those of the constructor. `shape` is that of an input, for layers of others.
    """

    norm: str
    arguments: Callable[[int], Arguments]
    shape: Callable[[int], Shape]
    wrap: Callable[[nn.Module], nn.Module] = lambda layer: layer


@dataclass(frozen=True)
class Row:
    """A network with a kind of norm, and a batch. Random numbers come from torch."""

    name: str
    kind: NormKind
    network: Callable[[Norm], nn.Module]
    batch: Callable[[], Batch]


IMAGES = NormKind("BatchNorm", lambda n: {"num_features": n}, lambda n: (1, n, 1, 1))
NODES = NormKind("BatchNorm", lambda n: {"num_features": n}, lambda n: (1, n), OverNodes)
GRAPHS = NormKind("GraphNorm", lambda n: {"in_channels": n}, lambda n: (1, n))
LAYER = NormKind("LayerNorm", lambda n: {"normalized_shape": (n,)}, lambda n: (1, n))
RMS = NormKind("RMSNorm", lambda n: {"normalized_shape": (n,)}, lambda n: (1, n))


def _image_batch(number: int, channels: int, side: int) -> Batch:
    target = torch.randint(0, 10, (number,))
    return Batch((torch.rand(number, channels, side, side),), target)


def _graph_batch(number: int, nodes: int, edges: int) -> Batch:
    return Batch(random_graphs(number, nodes, edges), torch.randint(0, 2, (number,)))


def _text_batch(number: int, tokens: int) -> Batch:
    words = torch.randint(0, 256, (number, tokens + 1))
    return Batch((words[:, :-1],), words[:, 1:])


ATLAS_BATCH = partial(_graph_batch, 64, nodes=7, edges=10)  # batches like those of the demo
MOLECULE_BATCH = partial(_graph_batch, 32, nodes=20, edges=40)
SMALL_GIN, GIN_5 = partial(GIN, width=32, layers=4), partial(GIN, width=64, layers=5)
TEXT_BATCH = partial(_text_batch, 4, 64)

ROWS = (
    Row("digits CNN of the demo, batch 32", IMAGES, Digits, partial(_image_batch, 32, 1, 8)),
    Row("ResNet, batch 16 of 32x32", IMAGES, ResNet, partial(_image_batch, 16, 3, 32)),
    Row("transformer 4x256, 4x64 tokens", LAYER, Transformer, TEXT_BATCH),
    Row("transformer 4x256, 4x64 tokens", RMS, Transformer, TEXT_BATCH),
    Row("GIN of the demo, 64 graphs of 7", NODES, SMALL_GIN, ATLAS_BATCH),
    Row("GIN of the demo, 64 graphs of 7", GRAPHS, SMALL_GIN, ATLAS_BATCH),
    Row("GIN 5x64, 32 graphs of 20", NODES, GIN_5, MOLECULE_BATCH),
    Row("GIN 5x64, 32 graphs of 20", GRAPHS, GIN_5, MOLECULE_BATCH),
)
