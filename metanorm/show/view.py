"""The view of a pool as data: the edges of a solid, the nodes of graphs, and shares."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Ref
from metanorm.small.tensor import Tensor


@dataclass(frozen=True)
class Edge:
    """An edge of a solid: an axis, or several that are merged.

    `matrix[i, j]` says how much position j counts for the statistic of position i; `chosen` is
    the position of the chosen element.
    """

    label: str
    axes: tuple[str, ...]
    matrix: Tensor
    chosen: int
    pooled: bool
    cut: bool = False  # whether only the first positions are drawn

    @property
    def length(self) -> int:
        """How many positions are drawn."""
        return self.matrix.shape[0]


@dataclass(frozen=True)
class Nodes:
    """The positions of the first edge as nodes: their pools, and the edges between them.

    `pools` is empty where each node has a pool of its own.
    """

    pools: tuple[int, ...]
    lines: tuple[tuple[int, int], ...]
    directed: bool


@dataclass(frozen=True)
class PoolView:
    """One pool: its statistics, and how much each element counts for the chosen element's.

    `shares` has a dimension for each edge.
    """

    names: tuple[Ref, ...]  # of the bindings
    statistics: tuple[str, ...]
    over: tuple[str, ...]  # an item for each axis, then masks and weights
    each: tuple[str, ...]
    edges: tuple[Edge, ...]
    shares: Tensor
    left_out: tuple[str, ...]  # axes of which one position is drawn
    nodes: Nodes | None

    @property
    def counts_itself(self) -> bool:
        """Whether the chosen element is in its own pool; a mask may leave it out."""
        return bool(self.shares[[edge.chosen for edge in self.edges]])
