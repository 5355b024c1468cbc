"""The bases of statements and of declarations in them. Both carry comments."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import field, replace

from metanorm.syntax.ast_expressions import Node, Trivia

if sys.version_info >= (3, 11):
    from typing import Self
else:
    from typing_extensions import Self


class Statement(Node):
    """The base of statements, which carry comments."""

    trivia: Trivia = field(default=Trivia(), compare=False)


class Item(Node):
    """The base of declarations in a statement or a norm, which may carry comments."""

    trivia: Trivia = field(default=Trivia(), compare=False)

    @property
    def note(self) -> str:
        """The comments of an item as one line, without allowances of lints."""
        comments = (*self.trivia.before, self.trivia.after)
        words = [line.lstrip("#").strip() for line in comments]
        return " ".join(w for w in words if w and not w.startswith("norm:")).rstrip(".")


class Itemized(Statement):
    """The base of statements with one or several items."""

    items: tuple[Item, ...]

    def with_items(self, items: Sequence[Item]) -> Self:
        """The statement with other items of its kind."""
        return replace(self, items=tuple(items))
