"""Did you mean: the nearest name, if one is near enough to be a slip."""

from __future__ import annotations

from collections.abc import Iterable

MAX_COMPARED = 300


def edit_distance(a: str, b: str) -> int:
    """Insertions, deletions, substitutions and swaps of neighbours from `a` to `b`."""
    rows: list[list[int]] = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            best = min(row[j - 1] + 1, rows[i - 1][j] + 1, rows[i - 1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                best = min(best, rows[i - 2][j - 2] + 1)
            row.append(best)
        rows.append(row)
    return rows[-1][-1]


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` most likely means, or `None`.

    A name with the same letters in another case comes first, then the one with the fewest edits:
    at most a third of the length of the name, or one. Two names of one letter never match. Last
    comes the only candidate that starts with `name`, or that `name` starts with: `eps`, `epsilon`.
    """
    ordered = sorted(set(candidates))
    for candidate in ordered:
        if candidate.lower() == name.lower() and candidate != name:
            return candidate
    limit = max(len(name) // 3, 1)
    close = [c for c in ordered if abs(len(c) - len(name)) <= limit and len(c) <= 60]
    close = close[:MAX_COMPARED]
    ranked = sorted((edit_distance(name, c), c) for c in close if len(name) <= 60)
    for edits, candidate in ranked[:1]:
        if edits <= limit and candidate != name and edits < max(len(name), len(candidate)):
            return candidate
    long_enough = [c for c in ordered if c != name and min(len(c), len(name)) >= 3]
    same_start = [c for c in long_enough if c.startswith(name) or name.startswith(c)]
    return same_start[0] if len(same_start) == 1 else None


def did_you_mean(name: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """The help line ``did you mean `x`?``, or none."""
    guess = nearest(name, candidates)
    return (f"did you mean `{guess}`?",) if guess else ()


def list_available(names: Iterable[str]) -> tuple[str, ...]:
    """The help line that lists all names, or none."""
    listed = list(names)
    return (f"there {'is' if len(listed) == 1 else 'are'} {listing(listed)}",) if listed else ()


def shortened(text: str, length: int = 60) -> str:
    """The beginning of a text that is too long for a message."""
    return text if len(text) <= length else text[: length - 3] + "..."


def prose(items: Iterable[str], last: str = "and") -> str:
    """a, b, and c: items as one phrase."""
    words = list(items)
    if len(words) < 3:
        return f" {last} ".join(words)
    return ", ".join(words[:-1]) + f", {last} {words[-1]}"


def listing(names: Iterable[str], last: str = "and") -> str:
    """`a`, `b`, and `c`: names in backticks, as one phrase."""
    return prose([f"`{name}`" for name in names], last)
