"""One difference between two versions of a norm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Change:
    """A difference; `breaks` says whether users of the module have to react."""

    norm: str
    kind: str  # norm, state, parameters, constructor, inputs, outputs, entries, begins, numbers
    text: str
    breaks: bool = True
