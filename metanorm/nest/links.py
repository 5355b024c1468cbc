"""Find pools that follow the edges of a graph from one end, so that loops go along edges."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from metanorm.ir.nodes import Link, Pool, Ref
from metanorm.ir.program import Program
from metanorm.nest.vanishing import vanishes_with


@dataclass(frozen=True)
class FollowedLink:
    """The link whose edges a pool follows from the nodes of `other` to those of `pooled`."""

    ref: Ref
    link: Link
    pooled: str
    other: str

    @property
    def into(self) -> bool:
        """Whether the pool takes the edges into a node; else those out of it."""
        return self.pooled == self.link.source


def followed_link(program: Program, op: Pool, axes: Collection[str]) -> FollowedLink | None:
    """The link that a pool over `axes` follows; `None` for a pool of whole axes."""
    for let in program.body:
        if not isinstance(let.op, Link):
            continue
        ends = (let.op.source, let.op.target)
        pooled = [axis for axis in ends if axis in axes]
        if len(pooled) == 1 and vanishes_with(program.index.lets, op, let.name):
            (other,) = {*ends} - {*pooled}
            return FollowedLink(let.name, let.op, pooled[0], other)
    return None
