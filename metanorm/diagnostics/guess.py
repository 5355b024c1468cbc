"""Fixes that put another name, or another text, in the place of one that is wrong."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.diagnostics.model import Applicability, Fix
from metanorm.diagnostics.suggest import nearest
from metanorm.source import Span

SAFE, UNSAFE = Applicability.SAFE, Applicability.UNSAFE


def nearest_name_fix(
    span: Span, name: str, known: Iterable[str], meaning: str = ""
) -> tuple[Fix, ...]:
    """The nearest known name at the beginning of `span`, where `name` stands; nothing if none is.

    Safe where one known name has the same letters in another case, which is a slip and no other
    thing. Any other name may be a different thing, so that `meaning` says what it is.
    """
    candidates = set(known)
    guess = nearest(name, candidates)
    if guess is None:
        return ()
    same = [c for c in candidates if c.lower() == name.lower()]
    return (replacement_fix(span, name, guess, SAFE if same == [guess] else UNSAFE, meaning),)


def replacement_fix(
    span: Span, found: str, wanted: str, applicability: Applicability, meaning: str = ""
) -> Fix:
    """`wanted` in the place of `found`, the text with which `span` begins."""
    place = Span(span.source, span.start, span.start + len(found))
    remark = f": {meaning}" if meaning else ""
    return Fix(place, wanted, applicability, f"write `{wanted}` instead of `{found}`{remark}")
