"""Which comment belongs to which statement."""

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
    """The trivia of each item of a container, and of the container's end.

    A comment on the line where an item ends belongs after it; any other
    belongs before the item that contains or follows it.
    """
    # Positions rise, and a list is not searched or shortened from its front for every container.
    first = bisect_left(comments, container.start, key=start_of)
    last = bisect_left(comments, container.end, key=start_of)
    own = deque(comments[first:last])
    before: list[list[str]] = [[] for _ in (*items, container)]
    after = ["" for _ in items]
    reached = container.start
    for index, item in enumerate((*items, container.after())):
        while own and (own[0].start_pos or 0) < item.end:
            comment = own.popleft()
            _blank_line(source, reached, comment.start_pos or 0, before[index])
            before[index].append(_text(comment))
            reached = comment.end_pos or 0
        _blank_line(source, reached, item.start, before[index])
        reached = max(reached, item.end)
        if own and index < len(items) and source.text.find("\n", item.end, start_of(own[0])) < 0:
            limit = items[index + 1].start if index + 1 < len(items) else container.end
            if (own[0].start_pos or 0) < limit:
                reached = own[0].end_pos or 0
                after[index] = _text(own.popleft())
    while before and before[0] and before[0][0] == "":
        before[0].pop(0)
    trivia = [Trivia(before=tuple(b), after=a) for b, a in zip(before, after)]
    ending = before[-1]
    while ending and ending[-1] == "":
        ending.pop()
    return trivia, Trivia(before=tuple(ending))


def _text(comment: Token) -> str:
    words = comment.lstrip("#").strip()
    return f"# {words}" if words else "#"


def start_of(comment: Token) -> int:
    """The position of its `#`."""
    return comment.start_pos or 0


def _blank_line(source: Source, start: int, end: int, lines: list[str]) -> None:
    if source.text[start:end].count("\n") > 1 and (not lines or lines[-1]):
        lines.append("")
