"""A TextMate grammar, which most editors can read, from the words of the language."""

from __future__ import annotations

import json
from collections.abc import Iterable

from metanorm.ir.ops import public
from metanorm.syntax.grammar import RESERVED_WORDS, SOFT_STATEMENT_WORDS

# Words that mean something in one place only.
SOFT = ("over", "where", "weight", "track", "per", "of", "by", "for", "in", "init", "off", "none")
SOFT += ("like", "as", "from")
SORTS = ("int", "float", "bool", "matrix", "index", "mask", "edges", "tensor")


def text_mate() -> str:
    """The grammar as JSON."""
    functions = {row.name for row in public() if row.group != "operator"}
    statements = {*RESERVED_WORDS, *SOFT_STATEMENT_WORDS}
    patterns = [
        {"name": "comment.line.number-sign.norm", "match": "#.*$"},
        {"name": "string.quoted.double.norm", "match": '"[^"\\n]*"'},
        {"name": "constant.numeric.norm", "match": r"\b(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\b"},
        {
            "match": r"\b(norm)\s+([A-Za-z_]\w*)",
            "captures": {
                "1": {"name": "keyword.declaration.norm"},
                "2": {"name": "entity.name.type.norm"},
            },
        },
        {"name": "keyword.control.norm", "match": _words(statements)},
        {"name": "support.function.norm", "match": _words(functions) + r"(?=\s*\()"},
        {"name": "keyword.other.norm", "match": _words({*SOFT} - statements)},
        {"name": "support.type.norm", "match": _words(SORTS)},
        {"name": "constant.language.norm", "match": _words(("true", "false", "None"))},
        {"name": "variable.other.axis.norm", "match": r"\*?\b[A-Z]\w*\b"},
    ]
    grammar = {
        "name": "metanorm",
        "scopeName": "source.norm",
        "fileTypes": ["norm"],
        "patterns": patterns,
    }
    return json.dumps(grammar, indent=2) + "\n"


def _words(words: Iterable[str]) -> str:
    return rf"\b({'|'.join(sorted(words))})\b"
