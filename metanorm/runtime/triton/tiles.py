"""Chooses schedules, tile sizes, numbers of programs and numbers of warps.

A program reads some thousand elements at a time: enough to have many loads in flight, few enough to
stay in registers. All sizes are powers of two, as Triton requires. None of them was measured on a
GPU yet; `METANORM_TRITON_TILE` sets the elements of a tile.

A norm has up to two schedules. A layout gets the first that fits:

- `islands`: a tile holds whole islands in registers, and the data is read once;
- `sweeps`: each sweep is a launch of all programs, for any number and size of islands.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from metanorm.runtime.kernels.errors import CannotBuild

TILE = 4096  # elements
MAX_COLUMNS = 1024  # columns of a tile that holds part of a row
MIN_COLUMNS = 32  # columns that are loaded together: a cache line
MAX_TILE = 16384  # elements of a tile that stays in registers between sweeps
MAX_HELD = 40960  # elements of all tiles of a program, of 65536 registers of a multiprocessor
WAVES = 4  # programs of a reducing kernel per multiprocessor
MIN_ROWS = 32  # rows of each: it writes little beside what it reads
PER_WARP = 512  # elements of a tile for each warp
CELLS, PARTS = 64, 32  # cells and parts of a tile of narrow values
MAX_MERGED = 1 << 16  # narrow values; up to so many, phases share one program
WARPS = 8  # of a program that computes narrow values


@dataclass(frozen=True)
class DataPass:
    """One kernel that reads the data of shape [outer, rows, columns].

    `down` says how a program covers rows, and `across` how it covers columns: a `part` of them, or
    the `whole` in its tile.

    `groups` is the number of groups of rows, if programs take them one by one. A block of columns
    has whole cells of `cell` columns, each in lanes whose number is a power of two.
    """

    down: str
    across: str
    outer: int
    rows: int
    columns: int
    keeps: int  # tiles in registers at once; numbers of 64 bits count twice
    adds_up: bool = False  # it reduces over several islands, or over rows of several
    gathers: bool = False  # a program has several islands
    groups: int = 0
    cell: int = 1

    @property
    def cells(self) -> int:
        """The number of cells of a row."""
        return cdiv(self.columns, self.cell)

    @property
    def length(self) -> int:
        """The rows of a group on average, or all rows."""
        return cdiv(self.rows, self.groups) if self.groups else self.rows


@dataclass(frozen=True)
class LaunchShape:
    """The shape of one launch; `numbers` are arguments of the kernel."""

    programs: int
    warps: int
    numbers: Mapping[str, int]
    elements: int = 0  # that a phase of narrow values reads


def next_power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n`."""
    return 1 << max(n - 1, 0).bit_length()


def cdiv(whole: int, size: int) -> int:
    """The quotient, rounded up."""
    return -(-whole // size)


@functools.lru_cache(maxsize=8)
def multiprocessors(device: torch.device) -> int:
    """The number of multiprocessors of a GPU; two where there is none."""
    if device.type != "cuda":
        return 2
    return torch.cuda.get_device_properties(device).multi_processor_count


def tile_size() -> int:
    """The elements of a tile. Raises `CannotBuild` for a setting that is no number."""
    setting = os.environ.get("METANORM_TRITON_TILE", str(TILE))
    if not setting.isdecimal() or not int(setting):
        raise CannotBuild(f"METANORM_TRITON_TILE is {setting!r}, no number of elements", "unset it")
    return next_power_of_two(int(setting))


def choose_schedule(islands: DataPass | None, size: int) -> str:
    """`islands` if a norm has such a kernel and its islands fit tiles, else `sweeps`."""
    return "islands" if islands is not None and fits_registers(islands, size) else "sweeps"


def fits_registers(data_pass: DataPass, size: int) -> bool:
    """Whether islands fit a tile, and all tiles of a program fit its registers."""
    rows, columns = _sides(data_pass, size)
    tile = columns * (rows if data_pass.down == "whole" else 1)
    return tile <= MAX_TILE and tile * data_pass.keeps <= MAX_HELD


def _sides(data_pass: DataPass, size: int) -> tuple[int, int]:
    """The rows and columns of a tile of about `size` elements."""
    rows, lanes = next_power_of_two(data_pass.length), next_power_of_two(data_pass.cell)
    columns = next_power_of_two(data_pass.cells) * lanes
    if data_pass.across == "part":
        if data_pass.down == "whole":  # the more rows, the fewer columns
            columns = min(columns, max(size // rows, MIN_COLUMNS, lanes))
        else:
            columns = min(columns, MAX_COLUMNS, size)
    return rows if data_pass.down == "whole" else min(rows, max(size // columns, 1)), columns


def _blocks(data_pass: DataPass, columns: int) -> int:
    """The number of programs that share the columns."""
    if data_pass.across != "part":
        return 1
    return cdiv(data_pass.cells, columns // next_power_of_two(data_pass.cell))


def pass_shape(data_pass: DataPass, device: torch.device, size: int) -> LaunchShape:
    """The launch shape of a kernel that reads the data in tiles of about `size` elements."""
    rows, columns = _sides(data_pass, size)
    blocks = _blocks(data_pass, columns)
    programs, numbers = _chunks(data_pass, rows, blocks, multiprocessors(device))
    lanes = next_power_of_two(data_pass.cell)
    numbers |= {"blocks": blocks, "ROWS": rows, "BLOCK": columns, "LANES": lanes}
    warps = min(max(next_power_of_two(rows * columns // PER_WARP), 1), 32)
    return LaunchShape(programs * blocks, warps, numbers)


def _chunks(
    data_pass: DataPass, tile_rows: int, blocks: int, processors: int
) -> tuple[int, dict[str, int]]:
    """The number of programs for each block of columns, and the share of each.

    A share is of islands if programs gather, else of rows. Reducing kernels have at most `WAVES`
    times as many programs as there are multiprocessors, and at least one program.
    """
    pieces = data_pass.outer * blocks
    if data_pass.gathers:
        share = cdiv(data_pass.outer, max(1, WAVES * processors // blocks))
        chunks = cdiv(data_pass.outer, share)
        return chunks, {"chunks": chunks, "islands of a chunk": share}
    if data_pass.down != "part":
        return data_pass.outer, {}
    tiles = cdiv(data_pass.rows, tile_rows)  # tiles of a column
    chunks = tiles
    if data_pass.adds_up or data_pass.groups:
        max_chunks = max(data_pass.rows // MIN_ROWS, cdiv(processors, pieces))
        chunks = max(1, min(tiles, max_chunks, WAVES * processors // pieces))
    if data_pass.groups:
        chunks = max(1, min(chunks, cdiv(data_pass.length, tile_rows)))
    share = cdiv(tiles, max(chunks, 1)) * tile_rows
    if not data_pass.groups:
        chunks = cdiv(data_pass.rows, share)
    return data_pass.outer * chunks, {"chunks": chunks, "rows of a chunk": share}


def phase_shape(count: int, pooled: int) -> LaunchShape:
    """The launch shape of a phase: each of `count` cells pools `pooled` parts or values.

    One column of a tile computes one cell.
    """
    columns = min(next_power_of_two(count), CELLS if pooled > 1 else 4 * CELLS)
    parts = min(next_power_of_two(pooled), max(PARTS * CELLS // columns, 1))
    numbers = {"CELLS": columns, "PARTS": parts}
    return LaunchShape(cdiv(count, columns), WARPS, numbers, count * pooled)


def merged_shape(phases: Sequence[LaunchShape]) -> LaunchShape | None:
    """The launch shape of one program for several phases; `None` if they are too large."""
    if len(phases) == 1 or sum(max(p.elements, p.numbers["CELLS"]) for p in phases) > MAX_MERGED:
        return None
    numbers = {
        f"{word} {position}": number
        for position, phase in enumerate(phases, 1)
        for word, number in phase.numbers.items()
    }
    return LaunchShape(1, WARPS, numbers)
