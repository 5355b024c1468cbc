"""`# norm: allow MN0701 -- reason`: warnings that the author has considered."""

from __future__ import annotations

import re
from collections.abc import Sequence

from metanorm.diagnostics.lints import UnusedAllowance
from metanorm.diagnostics.model import Diagnostic, Severity
from metanorm.diagnostics.registry import all_codes
from metanorm.source import Source, Span

ALLOWS = re.compile(r"#\s*norm:\s*allow\b")
ALLOW = re.compile(r"#\s*norm:\s*allow\s+(MN\d{4}(?:\s*,\s*MN\d{4})*)")


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
        UnusedAllowance(span, code, code in known)
        for (line, code), span in allowed.items()
        if (line, code) not in used
    ]
    unused += [UnusedAllowance(span, "") for span in empty]
    return (*kept, *(problem.diagnostic() for problem in unused))


def _allowances(source: Source) -> tuple[dict[tuple[int, str], Span], list[Span]]:
    """The line and code of each allowance with the place of the code; and those without one."""
    if "allow" not in source.text:
        return {}, []
    empty: list[Span] = []
    found: dict[tuple[int, str], Span] = {}
    for number in range(1, len(source.line_starts) + 1):
        line = source.line(number)
        match = ALLOW.search(line)
        start = source.line_starts[number - 1]
        if match is None:
            bare = ALLOWS.search(line)
            if bare is not None:
                empty.append(source.span(start + bare.start(), start + bare.end()))
            continue
        target = number + 1 if line.lstrip().startswith("#") else number
        for code in re.finditer(r"MN\d{4}", match.group(1)):
            first = start + match.start(1) + code.start()
            found[(target, code.group())] = source.span(first, first + 6)
    return found, empty
