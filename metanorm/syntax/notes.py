"""Which comment belongs to one of several items, such as inputs and parameters."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from lark import Token

from metanorm.source import Source, Span
from metanorm.syntax import ast
from metanorm.syntax.trivia import distribute, start_of

AnyItem = TypeVar("AnyItem", bound=ast.Item)


def with_notes(
    source: Source, comments: list[Token], items: Sequence[AnyItem], limit: int, inside: bool
) -> tuple[tuple[AnyItem, ...], list[Token]]:
    """The items with the comments that belong to them, and the comments that belong to none.

    Those are the ones between items, and behind the last one where it has its line for itself; what
    stands at `limit` or later is no item's. Between parentheses (`inside`), those before the first
    item, and behind the last one in any case, are an item's, too.
    """
    if not items:
        return (), comments
    first, last = items[0].span, items[-1].span
    # Positions rise: a long file is not searched from its front for every statement.
    begin = 0 if inside else bisect_left(comments, first.end, key=start_of)
    stop = bisect_left(comments, last.end, begin, key=start_of)
    alone = inside or len(items) == 1 or _breaks(source, items[-2].span.end, last.start)
    alone = alone or stop > begin  # a comment within breaks the line when it is formatted
    behind = start_of(comments[stop]) if alone and stop < len(comments) else limit
    stop += behind < limit and not _breaks(source, last.end, behind)
    own = comments[begin:stop]
    if not own:
        return tuple(items), comments
    start, end = min(first.start, start_of(own[0])), max(last.end, own[-1].end_pos or 0)
    spans = [item.span for item in items]
    trivia, _ = distribute(source, own, spans, Span(source.name, start, end))
    noted = tuple(replace(item, trivia=t) for item, t in zip(items, trivia))
    return noted, [*comments[:begin], *comments[stop:]]


def _breaks(source: Source, start: int, end: int) -> bool:
    return source.text.find("\n", start, end) >= 0
