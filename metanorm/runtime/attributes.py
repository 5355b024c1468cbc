"""Attributes that torch's tools read, for norms that keep the same under other names."""

from __future__ import annotations

from typing import Any


def renamed(name: str) -> Any:
    """A property that reads and writes the attribute `name`."""

    def read(module: object) -> Any:
        return getattr(module, name)

    def write(module: object, value: Any) -> None:
        setattr(module, name, value)

    return property(read, write)


def shape_of(*lengths: str | int) -> Any:
    """A property that reads a shape, whose lengths are numbers or names of attributes."""

    def read(module: object) -> tuple[int, ...]:
        return tuple(getattr(module, n) if isinstance(n, str) else n for n in lengths)

    return property(read)
