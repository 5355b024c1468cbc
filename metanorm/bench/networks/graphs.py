"""A network for graphs: the GIN of the demo, in the sizes of the table."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Norm = Callable[[int], nn.Module]  # called with (nodes, graph of each node, number of graphs)


class OverNodes(nn.Module):
    """A norm over all nodes of a batch, whatever graph they are in."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor, graph: Tensor, number: int) -> Tensor:
        """Normalize `x`; the other arguments are those of norms over graphs."""
        y: Tensor = self.norm(x)
        return y


class Layer(nn.Module):
    """Sums each node and its neighbours; two linear layers with norms follow."""

    def __init__(self, norm: Norm, inside: int, outside: int) -> None:
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(()))
        self.first, self.after_first = nn.Linear(inside, outside), norm(outside)
        self.second, self.after_second = nn.Linear(outside, outside), norm(outside)

    def forward(self, x: Tensor, edges: Tensor, graph: Tensor, number: int) -> Tensor:
        """New values of the nodes."""
        source, destination = edges
        y: Tensor = ((1 + self.eps) * x).index_add(0, destination, x[source])
        y = self.after_first(self.first(y), graph, number).relu()
        y = self.after_second(self.second(y), graph, number).relu()
        return y


class GIN(nn.Module):
    """A graph isomorphism network (Xu et al., 2019) that classifies sums over graphs."""

    def __init__(self, norm: Norm, width: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(norm, width if i else 1, width) for i in range(layers))
        self.classes = nn.Linear(layers * width, 2)

    def forward(self, edges: Tensor, graph: Tensor, number: int) -> Tensor:
        """Two numbers for each graph, from `edges[2, E]` and the graph of each node, `graph[V]`."""
        x = self.classes.weight.new_ones(len(graph), 1)
        sums = []
        for layer in self.layers:
            x = layer(x, edges, graph, number)
            sums.append(x.new_zeros(number, x.shape[1]).index_add(0, graph, x))
        logits: Tensor = self.classes(torch.cat(sums, dim=1))
        return logits


def random_graphs(number: int, nodes: int, edges: int) -> tuple[Tensor, Tensor, int]:
    """A batch of `number` random graphs, each with `nodes` nodes and `edges` edges both ways."""
    graph = torch.arange(number).repeat_interleave(nodes)
    ends = torch.randint(0, nodes, (2, number, edges)) + nodes * torch.arange(number)[:, None]
    forward = ends.flatten(1)
    return torch.cat([forward, forward.flip(0)], dim=1), graph, number
