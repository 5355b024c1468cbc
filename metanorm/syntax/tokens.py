"""The tokens of a text, and the classes of tokens that the parser tells apart."""

from __future__ import annotations

from lark import Token

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.structure import TooLarge
from metanorm.source import Source, Span
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS, parser

MAX_DEPTH = 64
MAX_TOKENS = 20_000
MAX_NAME_LENGTH = 120  # the names that a norm introduces have a lower limit

OPENERS = {"LPAR": "RPAR", "LSQB": "RSQB", "LBRACE": "RBRACE"}
CLOSERS = {"RPAR": "`)`", "RSQB": "`]`", "RBRACE": "`}`"}
STATEMENT_STARTS = frozenset(word.upper() for word in RESERVED_WORDS)
SOFT_STARTS = frozenset(word.upper() for word in SOFT_STATEMENT_WORDS)
SYNC_TOKENS = STATEMENT_STARTS | {"RBRACE", "$END"}

# Tokens that no grammar rule has: unused characters, brackets nested too deep, overlong words.
INVALID_TOKENS = frozenset({"FOREIGN", "UNKNOWN", "DEEP", "LONG"})

# After one of these tokens, an expression or a list may continue on the next line.
CONTINUATION_TOKENS = frozenset(
    {"COMMA", "EQUAL", "PLUS", "MINUS", "STAR", "SLASH", "CIRCUMFLEX", "COMPARISON", "COLON"}
) | set(OPENERS)


def tokens_of(source: Source, problems: Collector, comments: list[Token]) -> list[Token]:
    """The tokens of a text and an end token, without comments, which go to `comments`.

    A text with too many tokens gives the end token alone. Of brackets nested too deep, only the
    first gives a token, of the type DEEP.
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
            if len(token) > MAX_NAME_LENGTH and token.type in ("NAME", "FOREIGN"):
                token = Token.new_borrow_pos("LONG", str(token), token)
            depth += token.type in OPENERS
            if depth <= MAX_DEPTH:
                tokens.append(token)
            elif tokens[-1].type != "DEEP":
                tokens.append(Token.new_borrow_pos("DEEP", str(token), token))
            depth = max(depth - (token.type in CLOSERS), 0)
    return [*tokens, end]


def span_of(source: Source, token: Token) -> Span:
    """The span of a token."""
    return source.span(token.start_pos or 0, token.end_pos or 0)


def is_word(token: Token) -> bool:
    """Whether a token can be a name, as all words can that are not reserved."""
    return token.type not in INVALID_TOKENS and token.isidentifier() and token not in RESERVED_WORDS


def word_at(source: Source, offset: int) -> tuple[str, Span] | None:
    """The word at an offset, or the one that ends there; `None` in a comment or a string."""
    for token in parser().lex(source.text, dont_ignore=True):
        start, end = token.start_pos or 0, token.end_pos or 0
        if start <= offset <= end and token.isidentifier() and token.type != "FOREIGN":
            return str(token), source.span(start, end)
        if start > offset:
            break
    return None
