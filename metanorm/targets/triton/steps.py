"""What a call does, one step after the other: the kernels, and what is between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metanorm.targets.python.pyir import Function

Keys = tuple[str, ...]  # of lengths, whose product counts


@dataclass(frozen=True)
class Parts:
    """Partial results of a statistic: `count` of them for each of the `cells`."""

    names: Keys
    count: Keys
    cells: Keys


@dataclass(frozen=True)
class TileStep:
    """A kernel that looks at the data, in tiles."""

    kernel: Function
    arguments: Keys
    outer: Keys
    rows: Keys
    columns: Keys
    down: str  # how a program covers rows
    across: str  # and columns
    grouped: bool
    gathers: bool
    adds_up: bool  # over several tiles
    parts: tuple[Parts, ...]
    arrays: tuple[tuple[str, Keys], ...]  # narrow values that it stores, and their lengths
    keeps: int  # tiles that stay in registers
    writes: Keys

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        return {
            "kernel": self.kernel.name,
            "arguments": "; ".join(self.arguments),
            "outer": list(self.outer),
            "rows": list(self.rows),
            "columns": list(self.columns),
            "down": self.down,
            "across": self.across,
            "grouped": self.grouped,
            "gathers": self.gathers,
            "adds_up": self.adds_up,
            "parts": [[list(p.names), list(p.count), list(p.cells)] for p in self.parts],
            "arrays": {key: list(sizes) for key, sizes in self.arrays},
            "keeps": self.keeps,
            "writes": list(self.writes),
        }


@dataclass(frozen=True)
class SettleStep:
    """A kernel that computes narrow values on the same axes, for some of their cells at a time."""

    kernel: Function
    arguments: Keys
    cells: Keys
    arrays: tuple[tuple[str, Keys], ...]

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        return {
            "kernel": self.kernel.name,
            "arguments": "; ".join(self.arguments),
            "cells": list(self.cells),
            "arrays": {key: list(sizes) for key, sizes in self.arrays},
        }


@dataclass(frozen=True)
class Operand:
    """A narrow tensor: which of its dimensions stands where, if one does, and its lengths.

    Where it may be missing, `absent` is the number that stands for it.
    """

    key: str
    axes: tuple[int | None, ...]
    sizes: Keys
    absent: float | None

    def table(self) -> list[Any]:
        """What the runtime has to know of it."""
        return [self.key, list(self.axes), list(self.sizes), self.absent]


@dataclass(frozen=True)
class TorchStep:
    """A statistic or a softmax of narrow values, which torch computes.

    `dims` are those that it is taken over; the results of `moments` are a mean and a variance.
    """

    function: str
    value: Operand
    dims: tuple[int, ...]
    results: tuple[tuple[str, Keys], ...]
    where: Operand | None = None
    weight: Operand | None = None

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        table: dict[str, Any] = {
            "torch": self.function,
            "value": self.value.table(),
            "dims": list(self.dims),
            "arrays": {key: list(sizes) for key, sizes in self.results},
        }
        if self.where is not None:
            table["where"] = self.where.table()
        if self.weight is not None:
            table["weight"] = self.weight.table()
        return table


Step = TileStep | SettleStep | TorchStep
