"""Assigns comments to items of a statement, such as inputs and parameters."""

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
    """The items with their comments, and the remaining comments.

    An item gets comments between items, and behind the last item if that has a line of its own.
    Between parentheses (`inside`), it also gets those before the first item, and always those
    behind the last one. No item gets a comment at `limit` or later.
    """
    if not items:
        return (), comments
    first_span, last_span = items[0].span, items[-1].span
    # Comments are sorted: a binary search per statement keeps long files fast.
    low = 0 if inside else bisect_left(comments, first_span.end, key=start_of)
    high = bisect_left(comments, last_span.end, low, key=start_of)
    on_own_line = (
        inside or len(items) == 1 or _has_line_break(source, items[-2].span.end, last_span.start)
    )
    on_own_line = on_own_line or high > low  # the formatter breaks a line at a comment
    next_start = start_of(comments[high]) if on_own_line and high < len(comments) else limit
    high += next_start < limit and not _has_line_break(source, last_span.end, next_start)
    item_comments = comments[low:high]
    if not item_comments:
        return tuple(items), comments
    start, end = (
        min(first_span.start, start_of(item_comments[0])),
        max(last_span.end, item_comments[-1].end_pos or 0),
    )
    spans = [item.span for item in items]
    trivia, _ = distribute(source, item_comments, spans, Span(source.name, start, end))
    noted = tuple(replace(item, trivia=t) for item, t in zip(items, trivia))
    return noted, [*comments[:low], *comments[high:]]


def _has_line_break(source: Source, start: int, end: int) -> bool:
    return source.text.find("\n", start, end) >= 0
