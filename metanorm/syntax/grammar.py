"""The LALR parser that `grammar/metanorm.lark` describes, and the sorts of its words."""

from __future__ import annotations

from functools import lru_cache

from lark import Lark

from metanorm.resources import resource
from metanorm.syntax.parse_table import TABLE, parser_from_text, text_from_parser

# Words that begin a statement, or a norm: never a name.
STATEMENT_WORDS = frozenset(
    "input axis reduce stat mix track affine param let buffer update repeat output".split()
)
FILE_WORDS = frozenset({"norm", "use"})
RESERVED_WORDS = STATEMENT_WORDS | FILE_WORDS

# Words that begin a statement, yet may name a value: the papers write `scale` and `shift`.
SOFT_STATEMENT_WORDS = frozenset({"shift", "scale"})

# What these clauses may say by a word, instead of by a value.
CLAUSE_WORDS = {"shift": ("mean", "none"), "scale": ("std", "none", "l1", "max")}


def grammar_text() -> str:
    """The grammar as it is shipped."""
    return (resource("grammar") / "metanorm.lark").read_text(encoding="utf-8")


def shipped_table() -> str:
    """The table beside the grammar; nothing where there is none."""
    try:
        return (resource("grammar") / TABLE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


@lru_cache(maxsize=1)
def parser() -> Lark:
    """The parser. Whether a word is a keyword is left to its state: see `tree_from_text`."""
    grammar = grammar_text()
    return parser_from_text(shipped_table(), grammar) or parser_from_grammar(grammar)


def parser_from_grammar(grammar: str) -> Lark:
    """The parser, without the table that ships with the grammar."""
    return Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=True,
    )


def table_text() -> str:
    """The table as it should be shipped: the one that is, if it was made for this grammar.

    Lark numbers the states of equal tables differently in each run.
    """
    grammar, shipped = grammar_text(), shipped_table()
    if parser_from_text(shipped, grammar) is not None:
        return shipped
    return text_from_parser(parser_from_grammar(grammar), grammar)
