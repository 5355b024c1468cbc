"""`# norm: allow MN0701 -- reason`: warnings that the author has considered."""

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
BEFORE_COMMENT = re.compile(r'(?:[^"#]|"[^"]*")*')  # of one line; what a string holds is no comment


@dataclass(frozen=True)
class Allowance:
    """A code that a comment allows: where it stands, and what goes if it is not needed."""

    code: str
    span: Span
    removal: Span


def without_allowed(
    diagnostics: Sequence[Diagnostic], source: Source, is_root: bool
) -> tuple[Diagnostic, ...]:
    """The diagnostics without the warnings that the comments of a file allow.

    A comment counts for its line; one that stands alone counts for the next line. An allowance
    that silences nothing becomes a warning itself, in a file that is checked (`is_root`): of one
    that is used, not all norms need be.
    """
    allowed, empty = _allowances(source)
    if not (allowed or empty):
        return tuple(diagnostics)
    used: set[tuple[int, str]] = set()
    kept = []
    for found in diagnostics:
        place = (source.position(found.primary.span.start).line, found.code)
        mine = found.primary.span.source == source.name
        if mine and found.severity is Severity.WARNING and place in allowed:
            used.add(place)
        else:
            kept.append(found)
    if not is_root or any(d.severity is Severity.ERROR for d in kept):
        return tuple(kept)  # lints may not have run
    known = all_codes()
    unused = [
        UnusedAllowance(allowance.span, allowance.code, allowance.code in known, allowance.removal)
        for place, allowance in allowed.items()
        if place not in used
    ]
    unused += [UnusedAllowance(span, "") for span in empty]
    return (*kept, *(problem.diagnostic() for problem in unused))


def _allowances(source: Source) -> tuple[dict[tuple[int, str], Allowance], list[Span]]:
    """The allowances by line and code; and the places of those that name no code."""
    if "allow" not in source.text:
        return {}, []
    empty: list[Span] = []
    found: dict[tuple[int, str], Allowance] = {}
    for number in range(1, len(source.line_starts) + 1):
        line = source.line(number)
        start = source.line_starts[number - 1]
        before = BEFORE_COMMENT.match(line)
        comment = before.end() if before else 0
        match = ALLOW.search(line, comment)
        if match is None:
            bare = ALLOWS.search(line, comment)
            if bare is not None:
                empty.append(source.span(start + bare.start(), start + bare.end()))
            continue
        target = number + 1 if line.lstrip().startswith("#") else number
        for allowance in _in_comment(source, start, line, match):
            found[(target, allowance.code)] = allowance
    return found, empty


def _in_comment(source: Source, start: int, line: str, match: re.Match[str]) -> Iterator[Allowance]:
    """The allowances of a comment in the line that begins at `start`."""
    codes = list(CODE.finditer(line, match.start(1), match.end(1)))
    for place, code in enumerate(codes):
        if place:
            removal = source.span(start + codes[place - 1].end(), start + code.end())
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
