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
    cell: Keys  # of the columns, those that a block has all of
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
    """A kernel that computes narrow values on the same axes, for some of their cells at a time.

    `pooled` are the axes that its loops go over, for each cell; `changes` are the buffers that it
    updates.
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
    """What is narrow, in phases: `kernel` runs all of them in one program, if they are several."""

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
