"""Converts positions of the protocol to offsets of the compiler, and back.

The protocol counts lines from zero, and in a line the units of an agreed encoding, UTF-16 by
default. A `Source` counts characters, without byte order mark and carriage returns: lines are the
same in both, offsets are not.
"""

from __future__ import annotations

from lsprotocol import types

from metanorm.source import Source, Span

UTF8, UTF16 = types.PositionEncodingKind.Utf8, types.PositionEncodingKind.Utf16


class Positions:
    """Converts between the spans of one text and the ranges of one editor."""

    def __init__(self, source: Source, encoding: str, has_mark: bool = False) -> None:
        self.source = source
        self.encoding = encoding
        self.has_mark = has_mark  # a byte order mark, which the editor counts

    def position(self, offset: int) -> types.Position:
        """The position of a character."""
        character_position = self.source.position(offset)
        start = self.source.line_starts[character_position.line - 1]
        units = self._units(self.source.text[start:offset]) + self._mark(
            character_position.line - 1
        )
        return types.Position(line=character_position.line - 1, character=units)

    def range(self, span: Span) -> types.Range:
        """The range of a span."""
        return types.Range(start=self.position(span.start), end=self.position(span.end))

    def length(self, span: Span) -> int:
        """The number of units of a span inside one line."""
        return self._units(self.source.text[span.start : span.end])

    def offset(self, position: types.Position) -> int:
        """The offset of a position. A position beyond a line or the text is moved to its end."""
        if position.line >= len(self.source.line_starts):
            return len(self.source.text)
        remaining = position.character - self._mark(position.line)
        offset = self.source.line_starts[position.line]
        for character in self.source.line(position.line + 1):
            remaining -= self._units(character)
            if remaining < 0:
                break
            offset += 1
        return offset

    def span(self, range: types.Range) -> Span:
        """The characters of a range."""
        start, end = self.offset(range.start), self.offset(range.end)
        return self.source.span(start, max(start, end))

    def _mark(self, line: int) -> int:
        return self._units("\ufeff") if self.has_mark and line == 0 else 0

    def _units(self, text: str) -> int:
        if self.encoding == UTF8:
            return len(text.encode(errors="surrogatepass"))
        if self.encoding == UTF16:
            return len(text) + sum(c > "\uffff" for c in text)
        return len(text)
