"""The LALR parser of `grammar/metanorm.lark`, and the classes of its words."""

from __future__ import annotations

from functools import lru_cache

from lark import Lark

from metanorm.resources import resource
from metanorm.syntax.parse_table import TABLE, parser_from_text, text_from_parser

# Words that begin a statement or a norm, which can never be names.
STATEMENT_WORDS = frozenset(
    "input axis reduce stat mix track affine param let buffer update repeat output".split()
)
FILE_WORDS = frozenset({"norm", "use"})
RESERVED_WORDS = STATEMENT_WORDS | FILE_WORDS

# Words that begin a statement, but can be names: papers write `scale` and `shift`.
SOFT_STATEMENT_WORDS = frozenset("shift scale example entry gradient backward".split())

# Words that these clauses take instead of a value.
CLAUSE_WORDS = {"shift": ("mean", "none"), "scale": ("std", "none", "l1", "max")}


def grammar_text() -> str:
    """The text of the shipped grammar."""
    return (resource("grammar") / "metanorm.lark").read_text(encoding="utf-8")


def shipped_table() -> str:
    """The shipped parse table; empty if there is none."""
    try:
        return (resource("grammar") / TABLE).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


@lru_cache(maxsize=1)
def parser() -> Lark:
    """The parser. Its state decides whether a word is a keyword: see `tree_from_text`."""
    grammar = grammar_text()
    return parser_from_text(shipped_table(), grammar) or parser_from_grammar(grammar)


def parser_from_grammar(grammar: str) -> Lark:
    """The parser, built without the shipped table."""
    return Lark(
        grammar,
        parser="lalr",
        lexer="basic",
        propagate_positions=True,
        maybe_placeholders=True,
    )


def table_text() -> str:
    """The parse table to ship: the shipped one, if it is for this grammar.

    Lark numbers the states of equal tables differently in each run.
    """
    grammar, shipped = grammar_text(), shipped_table()
    if parser_from_text(shipped, grammar) is not None:
        return shipped
    return text_from_parser(parser_from_grammar(grammar), grammar)
