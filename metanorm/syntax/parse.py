"""Text to AST, in one call."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.diagnostics.collector import Collector
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.syntax.ast_from_tree import ast_from_tree
from metanorm.syntax.tree_from_text import tree_from_text


@dataclass(frozen=True)
class Parsed:
    """A file's AST and the names of the norms in it that have syntax errors."""

    file: ast.File
    broken: frozenset[str]


def parse(source: Source, problems: Collector) -> Parsed:
    """Parse a spec file; what is wrong with it goes to `problems`."""
    parsed = tree_from_text(source, problems)
    file = ast_from_tree(source, parsed, problems)
    return Parsed(file, frozenset(parsed.broken))
