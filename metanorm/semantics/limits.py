"""How large a norm may be. What no normalizer needs would only use up the machine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from metanorm.diagnostics.structure import TooLarge
from metanorm.syntax import ast

MOST_AXES = 64  # of a tensor of torch
MOST_DECLARATIONS = 1000
MOST_NORMS = 200

DECLARATIONS = (
    ast.Hyper,
    ast.InputItem,
    ast.ParamItem,
    ast.BufferItem,
    ast.OutputItem,
    ast.Stat,
    ast.Tracked,
    ast.Affine,
)


def too_large(norm: ast.Norm) -> TooLarge | None:
    """What there is too much of in a norm, at the place where it becomes too much."""
    axes: set[str] = set()
    declarations = 0
    for node in _nodes(norm):
        if isinstance(node, (ast.Dim, ast.Rename)):
            axes.add(node.axis.name if isinstance(node, ast.Dim) else node.new.name)
            if len(axes) > MOST_AXES:
                return TooLarge(node.span, MOST_AXES, "axes")
        elif isinstance(node, DECLARATIONS):
            declarations += 1
            if declarations > MOST_DECLARATIONS:
                return TooLarge(node.span, MOST_DECLARATIONS, "declarations")
    return None


def too_many(norms: tuple[ast.Norm, ...]) -> TooLarge | None:
    """The norm of a file that is one too many."""
    if len(norms) <= MOST_NORMS:
        return None
    return TooLarge(norms[MOST_NORMS].name.span, MOST_NORMS, "norms", "this file")


def _nodes(node: object) -> Iterator[ast.Node]:
    """A node and all below it, in the order of the text."""
    if isinstance(node, ast.Node):
        yield node
        for field in fields(node):
            yield from _nodes(getattr(node, field.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from _nodes(item)
