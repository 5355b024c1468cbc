"""Allowances: `# norm: allow MN0701 -- reason` silences a warning that the author accepts."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from metanorm.diagnostics.lints import UnusedAllowance
from metanorm.diagnostics.model import Diagnostic, Severity
from metanorm.diagnostics.registry import all_codes
from metanorm.source import Source, Span

ALLOWS = re.compile(r"#\s*norm:\s*allow\b")
ALLOW = re.compile(r"#\s*norm:\s*allow\s+(MN\d{4}(?:\s*,\s*MN\d{4})*)")
CODE = re.compile(r"MN\d{4}")
BEFORE_COMMENT = re.compile(
    r'(?:[^"#]|"[^"]*")*'
)  # of one line; a `#` in a string begins no comment


@dataclass(frozen=True)
class Allowance:
    """A code that a comment allows, its span, and the span to remove if it is not needed."""

    code: str
    span: Span
    removal: Span


def without_allowed(
    diagnostics: Sequence[Diagnostic], source: Source, is_root: bool
) -> tuple[Diagnostic, ...]:
    """The diagnostics without the warnings that the comments of a file allow.

    A comment is for its line; one on a line of its own is for the next line. An allowance that
    silences nothing is a warning itself, in a file that is checked (`is_root`). A file that another
    one uses need not be checked in full.
    """
    allowed, empty = _allowances(source)
    if not (allowed or empty):
        return tuple(diagnostics)
    used: set[tuple[int, str]] = set()
    remaining = []
    for diagnostic in diagnostics:
        key = (source.position(diagnostic.primary.span.start).line, diagnostic.code)
        is_in_file = diagnostic.primary.span.source == source.name
        if is_in_file and diagnostic.severity is Severity.WARNING and key in allowed:
            used.add(key)
        else:
            remaining.append(diagnostic)
    if not is_root or any(d.severity is Severity.ERROR for d in remaining):
        return tuple(remaining)  # lints may not have run
    codes = all_codes()
    unused = [
        UnusedAllowance(allowance.span, allowance.code, allowance.code in codes, allowance.removal)
        for key, allowance in allowed.items()
        if key not in used
    ]
    unused += [UnusedAllowance(span, "") for span in empty]
    return (*remaining, *(problem.diagnostic() for problem in unused))


def _allowances(source: Source) -> tuple[dict[tuple[int, str], Allowance], list[Span]]:
    """The allowances by line and code, and the spans of those without a code."""
    if "allow" not in source.text:
        return {}, []
    without_code: list[Span] = []
    allowances: dict[tuple[int, str], Allowance] = {}
    for number in range(1, len(source.line_starts) + 1):
        line = source.line(number)
        start = source.line_starts[number - 1]
        before = BEFORE_COMMENT.match(line)
        comment = before.end() if before else 0
        match = ALLOW.search(line, comment)
        if match is None:
            bare = ALLOWS.search(line, comment)
            if bare is not None:
                without_code.append(source.span(start + bare.start(), start + bare.end()))
            continue
        target = number + 1 if line.lstrip().startswith("#") else number
        for allowance in _in_comment(source, start, line, match):
            allowances[(target, allowance.code)] = allowance
    return allowances, without_code


def _in_comment(source: Source, start: int, line: str, match: re.Match[str]) -> Iterator[Allowance]:
    """The allowances of a comment in the line that begins at `start`."""
    codes = list(CODE.finditer(line, match.start(1), match.end(1)))
    for position, code in enumerate(codes):
        if position:
            removal = source.span(start + codes[position - 1].end(), start + code.end())
        elif len(codes) > 1:
            removal = source.span(start + code.start(), start + codes[1].start())
        elif line[: match.start()].strip():
            removal = source.span(start + len(line[: match.start()].rstrip()), start + len(line))
        else:
            end = min(start + len(line) + 1, len(source.text))  # the line, and its end
            removal = source.span(start, end)
        yield Allowance(
            code.group(), source.span(start + code.start(), start + code.end()), removal
        )
