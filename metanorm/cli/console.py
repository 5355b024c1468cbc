"""Output of the commands: plain text, in colour on a terminal that supports it.

Commands print through this module alone, since it replaces hidden characters: a comment in a spec
must not be able to send control sequences to a terminal.
"""

from __future__ import annotations

import difflib
import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TextIO

from metanorm.diagnostics.model import Diagnostic
from metanorm.diagnostics.render.text import Piece, counts_text, styled_pieces
from metanorm.source import Source
from metanorm.visible import visible, visible_lines

COLOURS = {
    "error": "\033[1;31m",
    "warning": "\033[1;33m",
    "headline": "\033[1m",
    "path": "\033[1m",
    "gutter": "\033[36m",
    "caret": "\033[31m",
    "label": "\033[36m",
    "added": "\033[32m",
    "removed": "\033[31m",
}
RESET = "\033[0m"
MAX_SHOWN = 100
NO_NEWLINE = "\\ No newline at end of file"  # as `diff` and `git` say it


def wants_colour(stream: TextIO) -> bool:
    """Whether to use colours: on a terminal, unless NO_COLOR is set."""
    return stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def write_pieces(parts: Iterable[Piece], stream: TextIO) -> None:
    """Styled text, with or without its styles."""
    colour = wants_colour(stream)
    for text, style in parts:
        code = COLOURS.get(style, "") if colour else ""
        visible_text = visible_lines(text)
        stream.write(f"{code}{visible_text}{RESET}" if code else visible_text)


def write_diagnostics(
    diagnostics: Sequence[Diagnostic], sources: Mapping[str, Source], stream: TextIO
) -> None:
    """Print diagnostics, `MAX_SHOWN` at most."""
    for diagnostic in diagnostics[:MAX_SHOWN]:
        write_pieces(styled_pieces(diagnostic, sources), stream)
    if len(diagnostics) > MAX_SHOWN:
        stream.write(f"... and {len(diagnostics) - MAX_SHOWN} more\n\n")


def write_summary(
    diagnostics: Sequence[Diagnostic], specs: int, milliseconds: float, stream: TextIO
) -> None:
    """Print the last line: `2 errors, 1 warning in 3 specs (41 ms)`."""
    plural = "s" if specs != 1 else ""
    stream.write(f"{counts_text(diagnostics)} in {specs} spec{plural} ({milliseconds:.0f} ms)\n")


def write_diff(before: str, after: str, path: str, status: str, stream: TextIO) -> None:
    """Print a unified diff of a file, which `patch -p0` applies: its text now, and its text after
    the change. The status stands where others have a date."""
    old, new = (list(io.StringIO(text, newline="\n")) for text in (before, after))
    lines = list(difflib.unified_diff(old, new))[2:]  # without the names
    if not lines:
        return
    name = visible(path)
    write_pieces([(f"--- {name}", "removed")], stream)
    stream.write(f"\t{visible(status)}\n")  # a name ends at a tab, and may have blanks
    write_pieces([(f"+++ {name}\n", "added")], stream)
    styles = {"+": "added", "-": "removed", "@": "gutter"}
    for line in lines:
        text = line if line.endswith("\n") else f"{line}\n{NO_NEWLINE}\n"
        write_pieces([(text, styles.get(line[:1], ""))], stream)


def print_result(text: str) -> None:
    """Print a result of a command on standard output. The text may have several lines."""
    sys.stdout.write(visible_lines(text))


def print_status(text: str) -> None:
    """Print what a command does, as a line on standard error."""
    sys.stderr.write(f"{visible(text)}\n")


def print_file(text: str) -> None:
    """Print a file on standard output: its bytes in UTF-8, unless that is a terminal."""
    if sys.stdout.isatty():
        print_result(text)
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())


def print_error(message: str) -> None:
    """Print a line on standard error, with `metanorm: ` in front."""
    print_status(f"metanorm: {message}")


class Failure(Exception):
    """A command cannot do what it was asked for. The message is printed as is; exit code 1."""
