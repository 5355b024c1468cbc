"""Assigns comments to statements."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Sequence

from lark import Token

from metanorm.source import Source, Span
from metanorm.syntax.ast import Trivia


def distribute(
    source: Source, comments: Sequence[Token], items: Sequence[Span], container: Span
) -> tuple[list[Trivia], Trivia]:
    """The trivia of each item of a container, and of the end of the container.

    A comment on the line where an item ends belongs after it. Any other comment belongs before the
    item that contains or follows it.
    """
    # Comments are sorted: a binary search and a deque keep long files fast.
    first = bisect_left(comments, container.start, key=start_of)
    last = bisect_left(comments, container.end, key=start_of)
    remaining = deque(comments[first:last])
    before: list[list[str]] = [[] for _ in (*items, container)]
    after = ["" for _ in items]
    position = container.start
    for index, item in enumerate((*items, container.after())):
        while remaining and (remaining[0].start_pos or 0) < item.end:
            comment = remaining.popleft()
            _add_blank_line(source, position, comment.start_pos or 0, before[index])
            before[index].append(_comment_text(comment))
            position = comment.end_pos or 0
        _add_blank_line(source, position, item.start, before[index])
        position = max(position, item.end)
        if (
            remaining
            and index < len(items)
            and source.text.find("\n", item.end, start_of(remaining[0])) < 0
        ):
            limit = items[index + 1].start if index + 1 < len(items) else container.end
            if (remaining[0].start_pos or 0) < limit:
                position = remaining[0].end_pos or 0
                after[index] = _comment_text(remaining.popleft())
    while before and before[0] and before[0][0] == "":
        before[0].pop(0)
    trivia = [Trivia(before=tuple(b), after=a) for b, a in zip(before, after)]
    end_lines = before[-1]
    while end_lines and end_lines[-1] == "":
        end_lines.pop()
    return trivia, Trivia(before=tuple(end_lines))


def _comment_text(comment: Token) -> str:
    words = comment.lstrip("#").strip()
    return f"# {words}" if words else "#"


def start_of(comment: Token) -> int:
    """The position of the `#` of a comment."""
    return comment.start_pos or 0


def _add_blank_line(source: Source, start: int, end: int, lines: list[str]) -> None:
    if source.text[start:end].count("\n") > 1 and (not lines or lines[-1]):
        lines.append("")
