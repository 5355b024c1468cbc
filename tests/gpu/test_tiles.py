"""Which schedule a layout gets on a large GPU, and that its programs cover the data."""

from __future__ import annotations

import itertools

import pytest
import torch

from metanorm.runtime.triton import tiles
from metanorm.runtime.triton.tiles import DataPass, LaunchShape, cdiv

DEVICE = torch.device("cpu")


@pytest.fixture(autouse=True)
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """The multiprocessors of an H100."""
    monkeypatch.setattr(tiles, "multiprocessors", lambda _: 132)


def islands(outer: int, rows: int, columns: int, inside: str, keeps: int) -> DataPass:
    """Islands of `columns`, of `rows`, or of `rows columns`, as a tile holds them."""
    down, across = ("whole" if side in inside else "part" for side in ("rows", "columns"))
    return DataPass(down, across, outer, rows, columns, keeps)


SCHEDULES = [
    ("LayerNorm, rows of 4096", islands(1, 8192, 4096, "columns", 3), "islands"),
    ("LayerNorm, rows of 16384", islands(1, 8192, 16384, "columns", 3), "sweeps"),
    ("RMSNorm, rows of 16384", islands(1, 8192, 16384, "columns", 2), "islands"),
    ("LayerNorm of 8 images", islands(1, 8, 150528, "columns", 3), "sweeps"),
    ("InstanceNorm of 224 x 224", islands(1, 32 * 64, 50176, "columns", 1), "sweeps"),
    (
        "GroupNorm(32) of 32 x 64 x 56 x 56",
        islands(1024, 2, 3136, "rows columns", 2),
        "islands",
    ),
    (
        "GroupNorm(32) of 32 x 256 x 56 x 56",
        islands(1024, 8, 3136, "rows columns", 2),
        "sweeps",
    ),
    ("GroupNorm(8) of 2 x 64 x 512 x 512", islands(16, 8, 262144, "rows columns", 2), "sweeps"),
    ("BatchNorm of 32 x 64 x 56 x 56", islands(64, 32, 3136, "rows columns", 2), "sweeps"),
    ("BatchNorm of 32 x 512 x 14 x 14", islands(512, 32, 196, "rows columns", 2), "islands"),
    ("BatchNorm of 8192 x 768", islands(1, 8192, 768, "rows", 2), "sweeps"),
    ("InstanceNorm, channels last", islands(32, 3136, 512, "rows", 2), "sweeps"),
    ("LayerNorm, channels first", islands(32, 256, 3136, "rows", 2), "islands"),
    ("a small batch", islands(4, 8, 100, "rows columns", 2), "islands"),
]


@pytest.mark.parametrize(
    ("data_pass", "schedule"), [s[1:] for s in SCHEDULES], ids=[s[0] for s in SCHEDULES]
)
def test_a_schedule(data_pass: DataPass, schedule: str) -> None:
    assert tiles.choose_schedule(data_pass, tiles.tile_size()) == schedule


def test_a_norm_without_islands_goes_sweep_by_sweep() -> None:
    assert tiles.choose_schedule(None, tiles.tile_size()) == "sweeps"


def test_numbers_of_64_bits_take_two_registers() -> None:
    for keeps, schedule in ((2, "islands"), (4, "sweeps")):
        data_pass = islands(1, 8192, 16384, "columns", keeps)
        assert tiles.choose_schedule(data_pass, tiles.tile_size()) == schedule


SIZES = (1, 3, 33, 1000, 5000)
COVERAGES = list(itertools.product(("part", "whole"), repeat=2))


@pytest.mark.parametrize(("down", "across"), COVERAGES)
@pytest.mark.parametrize("adds_up", [False, True])
def test_programs_cover_the_data(down: str, across: str, adds_up: bool) -> None:
    for outer, rows, columns, gathers in itertools.product((1, 7), SIZES, SIZES, (False, True)):
        gathers = gathers and down != "part"
        data_pass = DataPass(down, across, outer, rows, columns, 1, adds_up, gathers)
        chosen = tiles.pass_shape(data_pass, DEVICE, tiles.tile_size())
        assert _covered(chosen, data_pass) >= (outer, rows, columns)


def _covered(chosen: LaunchShape, data_pass: DataPass) -> tuple[int, int, int]:
    """How many islands, rows and columns all programs reach together."""
    numbers = chosen.numbers
    down = {"part": numbers.get("chunks", 1) * numbers.get("rows of a chunk", 0)}
    across = {"part": numbers["blocks"] * numbers["BLOCK"]}
    down |= {"whole": numbers["ROWS"]}
    across |= {"whole": numbers["BLOCK"]}
    programs = chosen.programs // numbers["blocks"]
    if data_pass.gathers:
        programs *= numbers["islands of a chunk"]
    elif data_pass.down == "part":
        programs //= numbers["chunks"]
    return programs, down[data_pass.down], across[data_pass.across]


def test_cells_side_by_side() -> None:
    """Groups of ten channels have sixteen lanes each, and blocks have whole groups."""
    data_pass = DataPass("whole", "part", 8, 64, 320, 2, cell=10)
    chosen = tiles.pass_shape(data_pass, DEVICE, tiles.tile_size())
    assert chosen.numbers["LANES"] == 16 and chosen.numbers["BLOCK"] % 16 == 0
    assert chosen.numbers["blocks"] * (chosen.numbers["BLOCK"] // 16) >= 32
    assert chosen.programs == 8 * chosen.numbers["blocks"]


def test_what_adds_up_leaves_little() -> None:
    """A program that adds up has rows enough for what it leaves, if others have some, too."""
    for rows, min_rows in ((100_000, 32), (8192, 32), (500, 3)):
        data_pass = DataPass("part", "whole", 1, rows, 4096, 5, adds_up=True)
        chosen = tiles.pass_shape(data_pass, DEVICE, tiles.tile_size())
        assert chosen.numbers["rows of a chunk"] >= min_rows
        assert chosen.programs == cdiv(rows, chosen.numbers["rows of a chunk"]) <= 4 * 132
