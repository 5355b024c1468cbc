"""Pools by index lists: the members of groups, the in-neighbours of nodes."""

from __future__ import annotations

import torch
from torch import Tensor

from metanorm.runtime.arguments import demand_whole
from metanorm.runtime.groups import Groups, demand_in_range
from metanorm.runtime.overlapping import PoolMatrix

SOURCES, TARGETS = "sources of edges", "targets of edges"  # in errors


class Members(PoolMatrix):
    """The positions of each group. The dimension then enumerates groups."""

    def __init__(self, groups: Groups) -> None:
        self.groups = groups

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each group."""
        return self.groups.total(x, dim)

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each group's mean."""
        return self.groups.total(weight * (x - self.groups.spread(mean, dim)).square(), dim)

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value of each group; equal ones share the gradient."""
        shape = [1] * x.dim()
        shape[dim] = -1
        empty = self.groups.sizes(x).view(shape) == 0
        return self.groups.largest(x, dim).masked_fill(empty, -torch.inf)


def edge_ends(edges: Tensor, nodes: int, loop: bool) -> tuple[Tensor, Tensor]:
    """The source and the target of each edge, and with `loop` of one from each node to itself.

    Raises `TypeError` for edges that are not whole numbers, `IndexError` for nodes out of range.
    """
    demand_whole(edges, "edges are numbers of nodes")
    source, target = edges.long().unbind()
    for ends, what in ((source, SOURCES), (target, TARGETS)):
        demand_in_range(ends, nodes, what, "nodes")
    if loop:
        all_nodes = torch.arange(nodes, device=edges.device)
        source, target = torch.cat((source, all_nodes)), torch.cat((target, all_nodes))
    return source, target


class Neighbours(Members):
    """The sources of all edges that end in a node, and with `loop` the node itself.

    `edges` has shape [2, E] and holds integers: sources in the first row, targets in the second,
    as PyG's `edge_index` does. A duplicate edge counts twice. Raises `TypeError` for another dtype,
    and `IndexError` for nodes out of range.
    """

    def __init__(self, edges: Tensor, nodes: int, loop: bool = False) -> None:
        source, target = edge_ends(edges, nodes, loop)
        self.source = source
        edge_groups = Groups(target, nodes, target.shape[0], TARGETS, "nodes", fresh=True)
        super().__init__(edge_groups)

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over the neighbours of each node."""
        return super().total(x.index_select(dim, self.source), dim)

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each node's mean: one difference for each edge."""
        if weight.shape[dim] != 1:
            weight = weight.index_select(dim, self.source)
        return super().squares(x.index_select(dim, self.source), mean, weight, dim)

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value among the neighbours of each node; equal ones share the gradient."""
        return super().largest(x.index_select(dim, self.source), dim)
