"""The tokens of a text, and what the parser needs to know about them."""

from __future__ import annotations

from lark import Token

from metanorm.source import Source, Span
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS, parser

MAX_DEPTH = 64

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = {"RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`"}
STATEMENT_STARTS = frozenset(word.upper() for word in RESERVED_WORDS)
SOFT_STARTS = frozenset(word.upper() for word in SOFT_STATEMENT_WORDS)
SYNC = STATEMENT_STARTS | {"RBRACE", "$END"}

# What the language does not use, and brackets that are nested too deep.
NO_TOKENS = frozenset({"FOREIGN", "UNKNOWN", "DEEP"})

# After one of these an expression or a list goes on, on the next line if need be.
GOES_ON = frozenset(
    {"COMMA", "EQUAL", "PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "COMPARISON", "COLON"}
) | set(OPENERS)


def tokens_of(source: Source, comments: list[Token]) -> list[Token]:
    """The tokens of a text and its end, comments apart.

    Of what is nested too deep only the first bracket is kept, as a token of its own type.
    """
    tokens, depth = [], 0
    for token in parser().lex(source.text, dont_ignore=True):
        if token.type == "COMMENT":
            comments.append(token)
        elif token.type != "SPACE":
            depth += token.type in OPENERS
            if depth <= MAX_DEPTH:
                tokens.append(token)
            elif tokens[-1].type != "DEEP":
                tokens.append(Token.new_borrow_pos("DEEP", str(token), token))
            depth = max(depth - (token.type in CLOSERS), 0)
    length = len(source.text)
    return [*tokens, Token("$END", "", start_pos=length, end_pos=length)]


def span_of(source: Source, token: Token) -> Span:
    """Where a token stands."""
    return source.span(token.start_pos or 0, token.end_pos or 0)


def is_word(token: Token) -> bool:
    """Whether this can be a name: what the grammar calls a keyword may be one elsewhere."""
    return token.type not in NO_TOKENS and token.isidentifier() and token not in RESERVED_WORDS
