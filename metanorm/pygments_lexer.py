"""Specs in colour wherever Pygments is asked: Sphinx, nbconvert, IPython, rich.

It is found by its entry point: ` ```norm ` in a page is enough.
"""

from __future__ import annotations

from pygments.lexer import RegexLexer, bygroups, words
from pygments.token import (
    Comment,
    Error,
    Keyword,
    Name,
    Number,
    Operator,
    Punctuation,
    String,
    Whitespace,
)

from metanorm.syntax.words import FUNCTIONS, LITERALS, SOFT, SORTS, STATEMENTS


class NormLexer(RegexLexer):  # type: ignore[misc] # which has no types
    """The `.norm` language, by the words of its tables."""

    name = "norm"
    aliases = ("norm", "metanorm")
    filenames = ("*.norm",)
    mimetypes = ("text/x-norm",)
    url = "https://github.com/metanorm/metanorm"

    tokens = {  # noqa: RUF012 - as Pygments has it
        "root": [
            (r"\s+", Whitespace),
            (r"#[^\n]*", Comment.Single),
            (r'"[^"\n]*"', String.Double),
            (r"(norm)(\s+)([A-Za-z_]\w*)", bygroups(Keyword.Declaration, Whitespace, Name.Class)),
            (r"(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\b", Number),
            (words(sorted(FUNCTIONS), prefix=r"\b", suffix=r"(?=\s*\()"), Name.Builtin),
            (words(sorted(STATEMENTS), prefix=r"\b", suffix=r"\b"), Keyword),
            (words(sorted(SOFT), prefix=r"\b", suffix=r"\b"), Keyword.Pseudo),
            (words(sorted(SORTS), prefix=r"\b", suffix=r"\b"), Keyword.Type),
            (words(LITERALS, prefix=r"\b", suffix=r"\b"), Keyword.Constant),
            (r"[A-Z]\w*(?=\s*\()", Name.Class),
            (r"\*?\b[A-Z]\w*\b", Name.Label),  # an axis
            (r"[A-Za-z_]\w*", Name),
            (r"->|[<>=!]=|[-+*/^<>=|]", Operator),
            (r"[{}()\[\],:.]", Punctuation),
            (r".", Error),
        ]
    }
