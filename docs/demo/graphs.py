"""The graph atlas: a small graph isomorphism network that tells chordal graphs from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import accumulate
from typing import NamedTuple

import networkx
import torch
from experiment import Batch, Experiment, Variant

# The package that `metanorm compile specs docs/demo/specs -o build/demo/norms` wrote.
from norms import BatchNorm, GraphNorm
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # a norm for so many channels

WIDTH = 32
LAYERS = 4
BATCH = 64


class Graphs(NamedTuple):
    """Several graphs as one, disconnected: V nodes, E edges in both directions."""

    edges: Tensor  # [2, E]: from, to
    graph: Tensor  # [V]: which graph a node belongs to
    number: int  # of graphs


class OverNodes(nn.Module):
    """A norm that does not look at graphs: all nodes of the batch are one pool."""

    def __init__(self, norm: Norm, channels: int) -> None:
        super().__init__()
        self.norm = norm(channels)

    def forward(self, x: Tensor, graph: Tensor, number: int) -> Tensor:
        """Normalize `x`, and take the arguments that GraphNorm takes."""
        y: Tensor = self.norm(x)
        return y


class Layer(nn.Module):
    """A node adds up its neighbours and itself, and two linear layers follow, each with a norm."""

    def __init__(self, norm: Norm, inside: int, outside: int, messages: bool) -> None:
        super().__init__()
        self.messages = messages
        self.self_weight = nn.Parameter(torch.zeros(()))
        self.first, self.first_norm = nn.Linear(inside, outside), norm(outside)
        self.second, self.second_norm = nn.Linear(outside, outside), norm(outside)

    def forward(self, x: Tensor, graphs: Graphs) -> Tensor:
        """New values of the nodes."""
        y = (1 + self.self_weight) * x
        if self.messages:
            source, destination = graphs.edges
            y = y.index_add(0, destination, x[source])
        y = self.first_norm(self.first(y), graphs.graph, graphs.number).relu()
        y = self.second_norm(self.second(y), graphs.graph, graphs.number).relu()
        return y


class Network(nn.Module):
    """Layers of a GIN (Xu et al., 2019); the sums over a graph after each of them are classified.

    Every node starts as 1, so the first messages are the degrees. `rounds` is how many layers send
    messages: after one round a network knows the degrees of a graph and nothing else.
    """

    def __init__(self, norm: Norm, rounds: int = LAYERS) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Layer(norm, WIDTH if i else 1, WIDTH, messages=i < rounds) for i in range(LAYERS)
        )
        self.classes = nn.Linear(LAYERS * WIDTH, 2)

    def forward(self, graphs: Graphs) -> Tensor:
        """Two numbers for each graph."""
        x = self.classes.weight.new_ones(len(graphs.graph), 1)
        sums = []
        for layer in self.layers:
            x = layer(x, graphs)
            sums.append(x.new_zeros(graphs.number, WIDTH).index_add(0, graphs.graph, x))
        answer: Tensor = self.classes(torch.cat(sums, dim=1))
        return answer


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "GraphNorm": partial(Network, GraphNorm),  # called with the graph of each node
    "BatchNorm": partial(Network, partial(OverNodes, BatchNorm)),
    "nn.BatchNorm1d": partial(Network, partial(OverNodes, nn.BatchNorm1d)),
    "no norm": partial(Network, partial(OverNodes, nn.Identity)),
    "degrees only": partial(Network, partial(OverNodes, nn.BatchNorm1d), rounds=1),
}


def experiment(quick: bool) -> Experiment:
    """All graphs of up to seven nodes, three in ten held out.

    A graph is chordal if every cycle of four or more nodes has a shortcut: a question of structure.
    Four in ten are, and neither size nor degrees give it away, as the last row of the table shows.
    """
    atlas = networkx.graph_atlas_g()[1:]  # the first has no nodes
    edges = [torch.tensor(list(graph.edges), dtype=torch.long).reshape(-1, 2) for graph in atlas]
    chordal = torch.tensor([int(networkx.is_chordal(graph)) for graph in atlas])
    order = torch.randperm(len(atlas), generator=torch.Generator().manual_seed(0))
    held_out, rest = order[:375], order[375:]
    if quick:
        rest = rest[:256]

    def together(chosen: Tensor) -> Batch:
        """A batch: the graphs side by side, their nodes numbered through."""
        indices = chosen.tolist()
        sizes = [len(atlas[i]) for i in indices]
        starts = accumulate(sizes, initial=0)
        forward = torch.cat([edges[i] + start for i, start in zip(indices, starts)]).T
        both = torch.cat([forward, forward.flip(0)], dim=1)
        graph = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
        return Batch(Graphs(both, graph, len(sizes)), chordal[chosen])

    def training(generator: torch.Generator) -> Iterator[Batch]:
        shuffled = rest[torch.randperm(len(rest), generator=generator)]
        return map(together, shuffled.split(BATCH))

    return Experiment(
        title="Graph atlas: a GIN tells chordal graphs",
        variants=[Variant(name, network) for name, network in VARIANTS.items()],
        training=training,
        held_out=together(held_out),
        epochs=1 if quick else 60,
        steps=len(rest[::BATCH]),
        learning_rate=0.01,
        same=("BatchNorm", "nn.BatchNorm1d"),
    )
