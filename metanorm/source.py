"""Text and positions in it.

The only notion of position in the compiler: a `Span` is a half-open range of
characters in a named source. Lines and columns exist only where a person or an
editor reads them, and are computed here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` (exclusive) of the source called `source`."""

    source: str
    start: int
    end: int

    def to(self, other: Span) -> Span:
        """The smallest span that covers both."""
        return Span(self.source, min(self.start, other.start), max(self.end, other.end))

    def before(self) -> Span:
        """The empty span at the start."""
        return Span(self.source, self.start, self.start)

    def after(self) -> Span:
        """The empty span at the end."""
        return Span(self.source, self.end, self.end)


@dataclass(frozen=True, slots=True)
class Position:
    """A position in a text: `line` and `column` start at one, `offset` at zero."""

    line: int
    column: int
    offset: int


@dataclass(frozen=True, slots=True)
class Source:
    """The text of one spec file and the name it is reported under.

    Line ends are `\\n` throughout; `Source.of` makes them so.
    """

    name: str
    text: str
    line_starts: tuple[int, ...] = field(repr=False, compare=False)
    problem: str = ""  # why a used file cannot be read; then `text` is empty

    @staticmethod
    def of(name: str, text: str) -> Source:
        """The source of a text as read, without byte order mark and carriage returns."""
        text = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")
        starts = [0] + [i + 1 for i, character in enumerate(text) if character == "\n"]
        return Source(name, text, tuple(starts))

    def position(self, offset: int) -> Position:
        """The line and column of the character at `offset`."""
        line = bisect_right(self.line_starts, offset)
        return Position(line, offset - self.line_starts[line - 1] + 1, offset)

    def line(self, number: int) -> str:
        """Line `number` (from one), without its end."""
        start = self.line_starts[number - 1]
        end = self.line_starts[number] - 1 if number < len(self.line_starts) else len(self.text)
        return self.text[start:end]

    def span(self, start: int, end: int) -> Span:
        """The span of characters `start` to `end` of this source."""
        return Span(self.name, start, end)

    def whole(self) -> Span:
        """The span of the whole text."""
        return Span(self.name, 0, len(self.text))


def apply_edits(text: str, edits: Iterable[tuple[Span, str]]) -> str:
    """Replace spans of the `Source` of a text in that text, as read from its file.

    Byte order mark and line ends stay, and new lines end like the others. Spans must not overlap.
    """
    original_offsets = _original_offsets(text)
    newline = "\r\n" if "\r\n" in text else "\n"
    for span, replacement in sorted(edits, key=lambda edit: edit[0], reverse=True):
        start, end = original_offsets[span.start], original_offsets[span.end]
        text = text[:start] + replacement.replace("\n", newline) + text[end:]
    return text


def _original_offsets(text: str) -> list[int]:
    """The offset in the text as read, for each character of its `Source` and for its end."""
    start = len(text) - len(text.removeprefix("\ufeff"))
    offsets = [
        i for i in range(start, len(text)) if not (text[i] == "\n" and text[i - 1 : i] == "\r")
    ]
    return [*offsets, len(text)]
