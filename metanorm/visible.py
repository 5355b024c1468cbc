"""Text from specs and file names, made safe to print.

A comment may contain characters that move a cursor, set colours or reverse the text, and a file
name may not be UTF-8. This module lists those characters instead of asking `unicodedata`: the
output of the compiler must not depend on the version of Python that runs it.
"""

from __future__ import annotations

import re

# Controls, formats (joiners, marks of direction, tags), separators of lines, halves of characters.
HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e"
    "\u200b-\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff\ufff9-\ufffb\U000110bd"
    "\U000110cd\U00013430-\U0001345f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e007f"
)
_HIDDEN = re.compile(f"[{HIDDEN}]")
_HIDDEN_IN_LINES = re.compile(f"(?!\\n)[{HIDDEN}]")
_SURROGATE_BYTE = re.compile("[\udc80-\udcff]")  # that is no UTF-8, as Python has it in names
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def visible(text: str) -> str:
    """The text on one line, with U+FFFD in the place of each hidden character."""
    return _HIDDEN.sub(REPLACEMENT, text.replace("\t", " "))


def visible_lines(text: str) -> str:
    """The same for a text of several lines, which stay lines."""
    return _HIDDEN_IN_LINES.sub(REPLACEMENT, text.replace("\t", " "))


def printable(text: str) -> str:
    """Text for a comment or a docstring, with a blank in the place of each hidden character."""
    return _HIDDEN.sub(" ", text)


def encodable(text: str) -> str:
    """The text with bytes of a file name that are not UTF-8 written as `\\xff`: any encoding of
    Unicode can represent it."""
    return (
        _SURROGATE_BYTE.sub(lambda byte: f"\\x{ord(byte[0]) - 0xDC00:02x}", text)
        .encode(errors="backslashreplace")
        .decode()
    )
