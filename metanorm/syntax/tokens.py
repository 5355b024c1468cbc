"""The tokens of a text, and what the parser needs to know about them."""

from __future__ import annotations

from lark import Token

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.structure import TooLarge
from metanorm.source import Source, Span
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS, parser

MAX_DEPTH = 64
MAX_TOKENS = 20_000
MAX_NAME = 120  # of anything; what a norm introduces is shorter

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = {"RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`"}
STATEMENT_STARTS = frozenset(word.upper() for word in RESERVED_WORDS)
SOFT_STARTS = frozenset(word.upper() for word in SOFT_STATEMENT_WORDS)
SYNC = STATEMENT_STARTS | {"RBRACE", "$END"}

# What the language does not use, brackets that are nested too deep, and endless words.
NO_TOKENS = frozenset({"FOREIGN", "UNKNOWN", "DEEP", "LONG"})

# After one of these an expression or a list goes on, on the next line if need be.
GOES_ON = frozenset(
    {"COMMA", "EQUAL", "PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "COMPARISON", "COLON"}
) | set(OPENERS)


def tokens_of(source: Source, problems: Collector, comments: list[Token]) -> list[Token]:
    """The tokens of a text and its end, comments apart; none of a text with too many.

    Of what is nested too deep only the first bracket is kept, as a token of its own type.
    """
    tokens: list[Token] = []
    depth = 0
    length = len(source.text)
    end = Token("$END", "", start_pos=length, end_pos=length)
    for token in parser().lex(source.text, dont_ignore=True):
        if len(tokens) > MAX_TOKENS:
            span = span_of(source, token)
            problems.add(TooLarge(span, MAX_TOKENS, "words and signs", "this file"))
            return [end]
        if token.type == "COMMENT":
            comments.append(token)
        elif token.type != "SPACE":
            if len(token) > MAX_NAME and token.type in ("NAME", "FOREIGN"):
                token = Token.new_borrow_pos("LONG", str(token), token)
            depth += token.type in OPENERS
            if depth <= MAX_DEPTH:
                tokens.append(token)
            elif tokens[-1].type != "DEEP":
                tokens.append(Token.new_borrow_pos("DEEP", str(token), token))
            depth = max(depth - (token.type in CLOSERS), 0)
    return [*tokens, end]


def span_of(source: Source, token: Token) -> Span:
    """Where a token stands."""
    return source.span(token.start_pos or 0, token.end_pos or 0)


def is_word(token: Token) -> bool:
    """Whether this can be a name: what the grammar calls a keyword may be one elsewhere."""
    return token.type not in NO_TOKENS and token.isidentifier() and token not in RESERVED_WORDS


def word_at(source: Source, offset: int) -> tuple[str, Span] | None:
    """The word around a place, or the one that ends there; none in a comment or a string."""
    for token in parser().lex(source.text, dont_ignore=True):
        start, end = token.start_pos or 0, token.end_pos or 0
        if start <= offset <= end and token.isidentifier() and token.type != "FOREIGN":
            return str(token), source.span(start, end)
        if start > offset:
            break
    return None
