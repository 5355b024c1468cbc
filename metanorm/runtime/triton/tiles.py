"""How large tiles are, how many programs share the work, and how many warps each has.

A program reads some thousand elements at a time: enough for many loads under way at once, few
enough to stay in registers. All is powers of two, as Triton asks for. Nothing here was measured
on a GPU yet; `METANORM_TRITON_TILE` sets the elements of a tile for who wants to try.

Of the schedules that a norm has, a layout gets the first that serves it well:

- `islands`: each tile holds whole islands in registers, and the data is read once;
- `walked`: a program goes over its island once for each sweep, and finds it in a cache from the
  second time on. That takes enough islands to keep all multiprocessors at work; a few short ones
  are better off in one launch as well;
- `sweeps`: every sweep is a launch of all programs, however few and large the islands are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from metanorm.runtime.kernels.refusals import CannotBuild

TILE = 4096  # elements of a tile
WIDEST = 1024  # columns of a tile where they need not be whole
NARROWEST = 32  # columns that are loaded together, if there are as many: a line of a cache
LARGEST = 16384  # elements of a tile that is kept in registers from sweep to sweep, and
HELD = 40960  # what a program keeps in all, of the 65536 registers of a multiprocessor
SHORT = 16384  # elements of islands that are walked over even where they are few
AT_WORK = 2  # programs that walk, for each multiprocessor: one loads while another adds up
WAVES = 4  # programs of a kernel that adds up, for each multiprocessor
SHARE = 32  # rows that each of them adds up at least: what it leaves is little beside what it read
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
    schedule: str = ""  # whatever serves best, as far as is known


@dataclass(frozen=True)
class Look:
    """What a kernel that looks at the data goes through. `down` says how a program covers rows
    and `across` columns: a `part` of them, the `whole` in its tile, or in a `walk` in each sweep.

    `groups` are those that rows belong to, if they are taken group by group; a block of columns
    has whole cells, each of so many columns and in lanes that are a power of two.
    """

    down: str
    across: str
    outer: int
    rows: int
    columns: int
    keeps: int  # tiles that are in registers at once; twice as many for numbers of 64 bits
    adds_up: bool = False  # over islands or rows that are not of one island
    gathers: bool = False  # programs have several islands
    groups: int = 0
    cell: int = 1

    @property
    def cells(self) -> int:
        """How many cells there are side by side."""
        return parts_of(self.columns, self.cell)

    @property
    def length(self) -> int:
        """The rows that a program may meet, on average."""
        return parts_of(self.rows, self.groups) if self.groups else self.rows


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
        tile, per_warp, waves = (max(1, int(v * 2.0**step)) for v, step in zip(values, steps))
        yield Choice(tile, per_warp, waves)
    for schedule in ("walked", "sweeps"):
        yield replace(choice, schedule=schedule)


def schedule(looks: Mapping[str, Look], device: torch.device, choice: Choice) -> str:
    """Which of `islands`, `walked` and `sweeps` serves best, of those that there are."""
    if choice.schedule in looks or choice.schedule == "sweeps":
        return choice.schedule
    if "islands" in looks and holds(looks["islands"], choice.tile):
        return "islands"
    enough = AT_WORK * processors(device)
    if "walked" in looks and walks(looks["walked"], choice.tile, enough):
        return "walked"
    return "sweeps"


def holds(look: Look, size: int) -> bool:
    """Whether islands fit a tile, and the registers all that a program keeps of it."""
    tall, wide = _sides(look, size)
    tile = wide * (tall if look.down == "whole" else 1)
    return tile <= LARGEST and tile * look.keeps <= HELD


def walks(look: Look, size: int, enough: int) -> bool:
    """Whether programs that walk over islands are enough to keep a GPU busy, or have little to
    do."""
    tall, wide = _sides(look, size)
    if look.across == "whole" and wide > size:
        return False  # what is added up for each place of a tile has to stay in registers
    rows, down = (tall, parts_of(look.rows, tall)) if look.down == "part" else (look.length, 1)
    columns = wide if look.across == "part" else look.columns
    return look.outer * down * _blocks(look, wide) >= enough or rows * columns <= SHORT


def _sides(look: Look, size: int) -> tuple[int, int]:
    """Rows and columns of a tile of about so many elements."""
    tall, lanes = above(look.length), above(look.cell)
    wide = above(look.cells) * lanes
    match look.down, look.across:
        case "whole" | "walk", "part":  # few columns of many rows, or many of few
            wide = min(wide, max(size // tall, NARROWEST, lanes))
        case "walk", "walk":  # wide enough to be loaded well, and not wider than rows leave room
            wide = min(wide, max(size // tall, WIDEST // 4))
        case _, "part":
            wide = min(wide, WIDEST, size)
        case "part", "walk":
            wide = min(wide, size)
    return tall if look.down == "whole" else min(tall, max(size // wide, 1)), wide


def _blocks(look: Look, wide: int) -> int:
    """How many programs share the columns."""
    return parts_of(look.cells, wide // above(look.cell)) if look.across == "part" else 1


def tiles(look: Look, device: torch.device, choice: Choice) -> Tiles:
    """The tiles of a kernel that looks at the data."""
    tall, wide = _sides(look, choice.tile)
    blocks = _blocks(look, wide)
    programs, numbers = _chunks(look, tall, blocks, processors(device), choice.waves)
    numbers |= {"blocks": blocks, "ROWS": tall, "BLOCK": wide, "LANES": above(look.cell)}
    warps = min(max(above(tall * wide // choice.per_warp), 1), 32)
    return Tiles(programs * blocks, warps, numbers)


def _chunks(
    look: Look, tall: int, blocks: int, least: int, waves: int
) -> tuple[int, dict[str, int]]:
    """How many programs have a block of columns, and what is the share of each: of the islands
    where they gather, else of the rows. Those that add up are no more than some waves of the
    `least` that keep a GPU busy, and no fewer than one, however short their shares are."""
    others = look.outer * blocks
    if look.gathers:
        each = parts_of(look.outer, max(1, waves * least // blocks))
        chunks = parts_of(look.outer, each)
        return chunks, {"chunks": chunks, "islands of a chunk": each}
    if look.down != "part":
        return look.outer, {}
    steps = parts_of(look.rows, tall)  # tiles below each other
    chunks = steps
    if look.adds_up or look.groups:
        most = max(look.rows // SHARE, parts_of(least, others))
        chunks = max(1, min(steps, most, waves * least // others))
    if look.groups:
        chunks = max(1, min(chunks, parts_of(look.length, tall)))
    each = parts_of(steps, max(chunks, 1)) * tall
    if not look.groups:
        chunks = parts_of(look.rows, each)
    return look.outer * chunks, {"chunks": chunks, "rows of a chunk": each}


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
