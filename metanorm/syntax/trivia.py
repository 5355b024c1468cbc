"""Which comment belongs to which statement."""

from __future__ import annotations

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
    own = [c for c in comments if container.start <= (c.start_pos or 0) < container.end]
    before: list[list[str]] = [[] for _ in (*items, container)]
    after = ["" for _ in items]
    reached = container.start
    for index, item in enumerate((*items, container.after())):
        while own and (own[0].start_pos or 0) < item.end:
            comment = own.pop(0)
            _blank_line(source, reached, comment.start_pos or 0, before[index])
            before[index].append(_text(comment))
            reached = comment.end_pos or 0
        _blank_line(source, reached, item.start, before[index])
        reached = max(reached, item.end)
        if own and "\n" not in source.text[item.end : own[0].start_pos] and index < len(items):
            limit = items[index + 1].start if index + 1 < len(items) else container.end
            if (own[0].start_pos or 0) < limit:
                reached = own[0].end_pos or 0
                after[index] = _text(own.pop(0))
    while before and before[0] and before[0][0] == "":
        before[0].pop(0)
    trivia = [Trivia(before=tuple(b), after=a) for b, a in zip(before, after)]
    ending = before[-1]
    while ending and ending[-1] == "":
        ending.pop()
    return trivia, Trivia(before=tuple(ending))


def _text(comment: Token) -> str:
    return "# " + comment.lstrip("#").strip() if comment.strip("# ") else "#"


def _blank_line(source: Source, start: int, end: int, lines: list[str]) -> None:
    if source.text[start:end].count("\n") > 1 and (not lines or lines[-1]):
        lines.append("")
