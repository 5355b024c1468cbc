"""Print loops along the edges of a graph: the nodes at the other ends of a cell's edges.

Edges are sorted by the node that a pool starts from. The runtime sorts an edge list once, as it
does an index. The cells of a tile have different numbers of edges, so the loop goes on for the one
that has most.
"""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Link
from metanorm.nest.links import FollowedLink
from metanorm.targets.python.pyir import Assign, Expr, Name
from metanorm.targets.triton.numbers import links_key
from metanorm.targets.triton.scope import COLUMN, ROW, Scope
from metanorm.targets.triton.terms import ONE, call, infix, plus


@dataclass
class EdgesOfCells:
    """The edges of each cell of a tile: the first ones, those behind the last, and the most."""

    scope: Scope
    followed: FollowedLink
    first: Name
    after: Name
    most: Expr
    edge: Name

    @classmethod
    def begin(cls, scope: Scope, followed: FollowedLink) -> EdgesOfCells:
        """Load the range of edges of each cell, before the loop."""
        names, node = scope.arguments.names, scope.at[followed.other]
        sides = scope.sides[followed.other]
        starts = _array(scope, followed.link, followed.into, "starts")
        first, after = (Name(names.fresh(n)) for n in ("first_edge", "after_edges"))
        scope.body.append(Assign((first,), scope.load(starts, node, sides)))
        scope.body.append(Assign((after,), scope.load(starts, plus(node, ONE), sides)))
        most = call("tl.max", infix("-", after, first))
        return cls(scope, followed, first, after, most, Name(names.fresh("edge")))

    def enter(self, number: Expr) -> Expr:
        """Set the current edge of each cell by its number. Returns whether it exists."""
        self.scope.body.append(Assign((self.edge,), plus(self.first, number)))
        return infix("<", self.edge, self.after)

    def set_node(self) -> None:
        """Set the position along the pooled nodes to the other end of the current edge."""
        scope, followed = self.scope, self.followed
        nodes = _array(scope, followed.link, followed.into, "nodes")
        name = Name(scope.arguments.names.fresh(followed.pooled.lower()))
        scope.body.append(Assign((name,), scope.load(nodes, self.edge, ROW | COLUMN)))
        scope.set_position(followed.pooled, name, ROW | COLUMN)


def _array(scope: Scope, link: Link, into: bool, part: str) -> Name:
    """The parameter with an array of the sorted edge list."""
    ends = "targets" if into else "sources"
    return scope.arguments(links_key(link, into, part), f"{link.edges}_{part}_by_{ends}")
