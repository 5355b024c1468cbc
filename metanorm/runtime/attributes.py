"""Attributes that torch's tools read, for norms that keep the same under other names."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from metanorm.runtime.errors import as_choice


def renamed(name: str) -> Any:
    """A property that reads and writes the attribute `name`."""

    def read(module: object) -> Any:
        return getattr(module, name)

    def write(module: object, value: Any) -> None:
        setattr(module, name, value)

    return property(read, write)


def is_choice(name: str, text: str, choices: Sequence[str]) -> Any:
    """A property that says whether the attribute `name` is `text`.

    It raises `ValueError` where the attribute is none of `choices`: it may have been set since.
    """

    def read(module: object) -> bool:
        return as_choice(getattr(module, name), name, choices) == text

    return property(read)


def shape_of(*lengths: str | int) -> Any:
    """A property that reads a shape, whose lengths are numbers or names of attributes."""

    def read(module: object) -> tuple[int, ...]:
        return tuple(getattr(module, n) if isinstance(n, str) else n for n in lengths)

    return property(read)
