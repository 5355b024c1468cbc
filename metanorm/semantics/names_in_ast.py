"""The names and nodes in a part of a syntax tree."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields

from metanorm.syntax import ast


def nodes_in(node: object) -> Iterator[ast.Node]:
    """A node and all below it, in the order of the text."""
    if isinstance(node, ast.Node):
        yield node
        for field in fields(node):
            yield from nodes_in(getattr(node, field.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from nodes_in(item)


def names_in(node: object) -> Iterator[str]:
    """Every value name below a node, once for each occurrence."""
    if isinstance(node, ast.Name):
        yield node.name
    elif isinstance(node, ast.Matrix):
        yield node.name
        yield from (name for argument in node.arguments for name in names_in(argument))
        if node.within is not None:
            yield node.within.name
    elif isinstance(node, ast.Node):
        for field in fields(node):
            yield from names_in(getattr(node, field.name))
    elif isinstance(node, tuple):
        for item in node:
            yield from names_in(item)


def defined_in(norm: ast.Norm) -> set[str]:
    """Every name that a norm introduces: hyperparameters, inputs, values and axes."""
    names = {h.name.name for h in norm.hypers}
    for statement in norm.statements:
        match statement:
            case ast.Input() | ast.Param() | ast.Buffer():
                names |= {item.name.name for item in statement.items}
            case ast.Let() | ast.Stat():
                names.add(statement.name.name)
            case ast.AxisSplit() | ast.AxisCut():
                names.add(statement.axis.name)
            case _:
                pass
    for node in nodes_in(norm):
        if isinstance(node, (ast.Dim, ast.Piece)):
            names.add(node.axis.name)
        elif isinstance(node, ast.Rename):
            names.add(node.new.name)
    return names
