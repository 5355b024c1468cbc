"""Fixes that replace a name or a text by another one."""

from __future__ import annotations

from collections.abc import Iterable

from metanorm.diagnostics.model import Applicability, Fix
from metanorm.diagnostics.suggest import nearest
from metanorm.source import Span

SAFE, UNSAFE = Applicability.SAFE, Applicability.UNSAFE


def nearest_name_fix(
    span: Span, name: str, candidates: Iterable[str], meaning: str = ""
) -> tuple[Fix, ...]:
    """The fix that replaces `name`, at the start of `span`, by the nearest candidate, if any.

    The fix is safe if exactly one candidate differs in case alone, since only a slip explains that.
    Any other candidate may mean something else; `meaning` then says what the name stands for.
    """
    names = set(candidates)
    guess = nearest(name, names)
    if guess is None:
        return ()
    same = [c for c in names if c.lower() == name.lower()]
    return (replacement_fix(span, name, guess, SAFE if same == [guess] else UNSAFE, meaning),)


def replacement_fix(
    span: Span, old: str, new: str, applicability: Applicability, meaning: str = ""
) -> Fix:
    """The fix that replaces `old`, the text at the start of `span`, by `new`."""
    target = Span(span.source, span.start, span.start + len(old))
    remark = f": {meaning}" if meaning else ""
    return Fix(target, new, applicability, f"write `{new}` instead of `{old}`{remark}")
