"""The steps of a call, as data: kernel launches, and the arrays that pass between them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metanorm.targets.python.pyir import Function

Keys = tuple[str, ...]  # keys of arguments; of lengths, their product counts


@dataclass(frozen=True)
class Parts:
    """The stored parts of a statistic: `count` of them for each of the `cells`."""

    names: Keys
    count: Keys
    cells: Keys


@dataclass(frozen=True)
class TileStep:
    """A kernel that reads the data, tile by tile."""

    kernel: Function
    arguments: Keys
    outer: Keys
    rows: Keys
    columns: Keys
    cell: Keys  # the last axes of the columns, of which a block has whole cells
    down: str  # how a program covers rows: `part` or `whole`
    across: str  # how a program covers columns
    grouped: bool
    gathers: bool
    adds_up: bool  # whether it accumulates over several tiles
    parts: tuple[Parts, ...]
    arrays: tuple[tuple[str, Keys], ...]  # the narrow values that it stores, and their lengths
    keeps: int  # tiles that are in registers at once
    writes: Keys

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        return {
            "kernel": self.kernel.name,
            "arguments": "; ".join(self.arguments),
            "outer": list(self.outer),
            "rows": list(self.rows),
            "columns": list(self.columns),
            "cell": list(self.cell),
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
class PhaseStep:
    """A kernel that computes narrow values on the same axes, some cells at a time.

    `pooled` are the lengths of its loops per cell; `changes` are the buffers that it updates.
    """

    kernel: Function
    arguments: Keys
    cells: Keys
    pooled: tuple[Keys, ...]
    arrays: tuple[tuple[str, Keys], ...]
    changes: Keys

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        return {
            "kernel": self.kernel.name,
            "arguments": "; ".join(self.arguments),
            "cells": list(self.cells),
            "pooled": [list(axes) for axes in self.pooled],
            "arrays": {key: list(sizes) for key, sizes in self.arrays},
        }


@dataclass(frozen=True)
class PhasesStep:
    """The phases between two passes. `kernel` runs several phases in one program."""

    kernel: Function | None
    arguments: Keys
    phases: tuple[PhaseStep, ...]

    def table(self) -> dict[str, Any]:
        """What the runtime has to know of it."""
        table: dict[str, Any] = {"phases": [phase.table() for phase in self.phases]}
        if self.kernel is not None:
            table["kernel"] = self.kernel.name
            table["arguments"] = "; ".join(self.arguments)
        return table


Step = TileStep | PhasesStep
