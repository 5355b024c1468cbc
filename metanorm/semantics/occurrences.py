"""Occurrences of symbols in a spec: where each name is introduced and used, for editors.

They are read from the syntax tree as written, so that specs with errors have them, too. A rename of
all occurrences of a symbol must not change the meaning of a spec; a test renames every name of the
corpus.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from metanorm.semantics.occurrence_scope import OccurrenceScope
from metanorm.semantics.occurrences_in_nodes import occurrences_in
from metanorm.semantics.symbols import Occurrence, Symbol, introduced
from metanorm.source import Source
from metanorm.syntax import ast
from metanorm.syntax.parse import Parsed


def occurrences(source: Source, parsed: Parsed) -> tuple[Occurrence, ...]:
    """Every name and word of a text except keywords, in the order of the text."""
    all_occurrences = [o for norm in parsed.file.norms for o in _of_norm(source, norm)]
    introduced_symbols = {
        (o.symbol.norm, o.symbol.name): o.symbol for o in all_occurrences if o.introduces
    }
    resolved = [replace(o, symbol=introduced(o, introduced_symbols)) for o in all_occurrences]
    return tuple(sorted(set(resolved), key=lambda o: (o.span, not o.introduces)))


def _of_norm(source: Source, norm: ast.Norm) -> Iterator[Occurrence]:
    """The occurrences in one norm. Of several that could introduce a symbol, the first does."""
    seen_symbols: set[Symbol] = set()
    for occurrence in sorted(occurrences_in(norm, OccurrenceScope(norm)), key=lambda o: o.span):
        span, symbol = occurrence.span, occurrence.symbol
        if source.text[span.start : span.end] != symbol.name:
            continue  # the parser inserted it, after an error
        introduces = occurrence.introduces and symbol not in seen_symbols
        yield replace(occurrence, introduces=introduces)
        if occurrence.introduces:
            seen_symbols.add(symbol)
