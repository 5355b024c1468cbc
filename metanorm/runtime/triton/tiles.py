"""How large tiles are, how many programs share the work, and how many warps each has.

A program reads some thousand elements at a time: enough for many loads under way at once, few
enough to stay in registers. All is powers of two, as Triton asks for. Nothing here was measured
on a GPU yet; `METANORM_TRITON_TILE` sets the elements of a tile for who wants to try.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from metanorm.runtime.kernels.refusals import CannotBuild

TILE = 4096  # elements of a tile
WIDEST = 1024  # columns of a tile where they need not be whole
HELD = 16384  # most elements of a tile that is kept in registers from sweep to sweep
WAVES = 4  # programs of a kernel that adds up, for each multiprocessor
PER_WARP = 512  # elements of a tile for each warp
CELLS, PARTS = 64, 32  # of what is narrow, at a time
TOGETHER = 1 << 16  # most narrow values that one program goes through, instead of many launches
WARPS = 8  # of a program that computes what is narrow


# What else may be tried: elements of a tile and of a warp, and programs of a multiprocessor, as
# powers of two beside the usual ones.
TRIED = (
    (-1, 0, 0), (1, 0, 0), (0, -1, 0), (0, 1, 0), (0, 0, -1), (0, 0, 1), (-1, -1, 0), (1, 1, 0),
)  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """What decides about tiles: elements of one, elements for each warp, programs of a kernel that
    adds up for each multiprocessor."""

    tile: int
    per_warp: int
    waves: int


@dataclass(frozen=True)
class Tiles:
    """The shape of one launch: `numbers` are what the kernel is given."""

    programs: int
    warps: int
    numbers: Mapping[str, int]
    elements: int = 0  # what a phase of narrow values looks at


def above(n: int) -> int:
    """The least power of two that is not smaller."""
    return 1 << max(n - 1, 0).bit_length()


def parts_of(whole: int, size: int) -> int:
    """How many pieces of a size something has."""
    return -(-whole // size)


@functools.lru_cache(maxsize=8)
def processors(device: torch.device) -> int:
    """The multiprocessors of a GPU; a few where there is none."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count


def usual() -> Choice:
    """The choice that nobody has tried. Raises `CannotBuild` for a size that is no number."""
    given = os.environ.get("METANORM_TRITON_TILE", str(TILE))
    if not given.isdecimal() or not int(given):
        raise CannotBuild(f"METANORM_TRITON_TILE is {given!r}, no number of elements", "unset it")
    return Choice(above(int(given)), PER_WARP, WAVES)


def others(choice: Choice) -> Iterator[Choice]:
    """What may be faster than a choice."""
    values = (choice.tile, choice.per_warp, choice.waves)
    for steps in TRIED:
        yield Choice(*(max(1, int(value * 2.0**step)) for value, step in zip(values, steps)))


def holds(whole: Sequence[str], rows: int, columns: int, tensors: int) -> bool:
    """Whether islands fit a tile: `tensors` of them stay in registers at once."""
    tall = above(rows) if "rows" in whole else 1
    wide = above(columns) if "columns" in whole else 1
    return tall * wide * max(tensors, 1) <= HELD


def tiles(
    whole: Sequence[str], outer: int, rows: int, columns: int, adds_up: bool, grouped: bool,
    groups: int, device: torch.device, choice: Choice,
) -> Tiles:  # fmt: skip
    """The tiles of a kernel that looks at the data."""
    size = choice.tile
    if "rows" in whole:
        tall = above(rows)
        wide = above(columns) if "columns" in whole else min(above(columns), max(size // tall, 1))
    else:
        wide = above(columns) if "columns" in whole else min(above(columns), WIDEST, size)
        tall = min(above(rows), max(size // wide, 1))
    blocks = parts_of(columns, wide)
    steps = parts_of(rows, tall)  # tiles below each other
    chunks = steps
    if adds_up or grouped:
        most = choice.waves * processors(device)
        chunks = min(steps, max(1, most // max(outer * blocks, 1)))
    if grouped:  # a group has its share of the rows, on average
        chunks = max(1, min(chunks, parts_of(parts_of(rows, max(groups, 1)), tall)))
    each = parts_of(steps, max(chunks, 1)) * tall
    if not grouped:
        chunks = parts_of(rows, each)
    numbers = {
        "blocks": blocks, "chunks": chunks, "rows of a chunk": each, "ROWS": tall, "BLOCK": wide,
    }  # fmt: skip
    programs = blocks * outer * (1 if "rows" in whole else chunks)
    warps = min(max(above(tall * wide // choice.per_warp), 1), 32)
    return Tiles(programs, warps, numbers)


def cells(count: int, pooled: int) -> Tiles:
    """The tiles of a phase of narrow values: each of `count` cells pools so many parts or values,
    and is computed by one column of a tile."""
    wide = min(above(count), CELLS if pooled > 1 else 4 * CELLS)
    numbers = {"CELLS": wide, "PARTS": min(above(pooled), max(PARTS * CELLS // wide, 1))}
    return Tiles(parts_of(count, wide), WARPS, numbers, count * pooled)


def together(phases: Sequence[Tiles]) -> Tiles | None:
    """One program for phases that are small together; `None` where each is better off alone."""
    if len(phases) == 1 or sum(max(p.elements, p.numbers["CELLS"]) for p in phases) > TOGETHER:
        return None
    numbers = {
        f"{word} {place}": number
        for place, phase in enumerate(phases, 1)
        for word, number in phase.numbers.items()
    }
    return Tiles(1, WARPS, numbers)
