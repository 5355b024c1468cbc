"""What a called norm keeps for later calls: buffers, running statistics, first values."""

from __future__ import annotations

from collections.abc import Iterator

from metanorm.semantics.lowering import CallScope
from metanorm.semantics.names_in_ast import nodes_in
from metanorm.syntax import ast


def keeps_state(scope: CallScope) -> bool:
    """Whether a called norm has buffers or running statistics, or calls a norm that has."""
    has_buffers = any(isinstance(node, ast.Buffer) for node in nodes_in(scope.norm))
    has_tracked = any(not scope.leaves_out("track", node.off) for node in tracked_in(scope))
    return has_buffers or has_tracked or any(map(keeps_state, scope.inner_scopes))


def tracked_in(scope: CallScope) -> Iterator[ast.Tracked]:
    """The running statistics of a called norm."""
    return (node for node in nodes_in(scope.norm) if isinstance(node, ast.Tracked))


def kept_by(node: ast.Node) -> str:
    """What a statement of a norm keeps for later calls, in words; empty if it keeps nothing."""
    if isinstance(node, ast.Update):
        return "buffers that it updates"
    if isinstance(node, (ast.ParamItem, ast.BufferItem)) and node.first is not None:
        return "values that come from the first batch"
    return ""
