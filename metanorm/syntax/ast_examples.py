"""The nodes of examples, which are calls and what they give."""

from __future__ import annotations

from typing import Literal, Union

from metanorm.syntax.ast_bases import Statement
from metanorm.syntax.ast_expressions import (
    Identifier,
    Missing,
    Name,
    Negative,
    Node,
    Number,
    Text,
)


class ListOf(Node):
    """`[1, 2]`, in an example."""

    kind: Literal["list"] = "list"
    items: tuple[Constant, ...]


Constant = Union[Number, Negative, Name, Text, Missing, ListOf]


class ExampleItem(Node):
    """`x = [1, 2]`; in what is expected the first output has no name."""

    name: Identifier | None = None
    value: Constant


class Example(Statement):
    """`example x = [[1, 3]], eps = 0 in eval gives [[-1, 1]] within 1e-6`."""

    kind: Literal["example"] = "example"
    given: tuple[ExampleItem, ...]
    mode: Identifier | None = None
    expected: tuple[ExampleItem, ...]
    within: Number | None = None
