"""The LALR parser that `grammar/metanorm.lark` describes, and the sorts of its words."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path

from lark import Lark
from platformdirs import user_cache_path

from metanorm.resources import resource

# Words that begin a statement, or a norm: never a name.
STATEMENT_WORDS = frozenset(
    "input axis reduce stat mix track affine param let buffer update repeat output".split()
)
FILE_WORDS = frozenset({"norm", "use"})
RESERVED_WORDS = STATEMENT_WORDS | FILE_WORDS

# Words that begin a statement, yet may name a value: the papers write `scale` and `shift`.
SOFT_STATEMENT_WORDS = frozenset({"shift", "scale"})


def grammar_text() -> str:
    """The grammar as it is shipped."""
    return (resource("grammar") / "metanorm.lark").read_text(encoding="utf-8")


def _table_cache() -> str | bool:
    """Where Lark keeps the parse table, so that a start takes 10 ms instead of 100.

    A cache that cannot be read or written costs that time and nothing else.
    """
    folder = os.environ.get("METANORM_CACHE")
    path = Path(folder) if folder else user_cache_path("metanorm")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return str(path / "grammar.lark-table")


@lru_cache(maxsize=1)
def parser() -> Lark:
    """The parser. Whether a word is a keyword is left to its state: see `tree_from_text`."""
    return Lark(
        grammar_text(),
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=True,
        cache=_table_cache(),
    )
