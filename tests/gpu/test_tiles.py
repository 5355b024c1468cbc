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


def data_passes(
    outer: int, rows: int, columns: int, inside: str, keeps: int
) -> dict[str, DataPass]:
    """Islands of `columns`, of `rows`, or of `both`, as held in a tile and as walked over."""
    down, across = ("rows" in inside, "columns" in inside)
    return {
        name: DataPass(
            coverage if down else "part",
            coverage if across else "part",
            outer,
            rows,
            columns,
            keeps,
        )
        for name, coverage in (("islands", "whole"), ("walked", "walk"))
    }


SCHEDULES = [
    ("LayerNorm, rows of 4096", data_passes(1, 8192, 4096, "columns", 3), "islands"),
    ("LayerNorm, rows of 16384", data_passes(1, 8192, 16384, "columns", 3), "walked"),
    ("RMSNorm, rows of 16384", data_passes(1, 8192, 16384, "columns", 2), "islands"),
    ("LayerNorm of 8 images", data_passes(1, 8, 150528, "columns", 3), "sweeps"),
    ("InstanceNorm of 224 x 224", data_passes(1, 32 * 64, 50176, "columns", 1), "walked"),
    (
        "GroupNorm(32) of 32 x 64 x 56 x 56",
        data_passes(1024, 2, 3136, "rows columns", 2),
        "islands",
    ),
    (
        "GroupNorm(32) of 32 x 256 x 56 x 56",
        data_passes(1024, 8, 3136, "rows columns", 2),
        "walked",
    ),
    ("GroupNorm(8) of 2 x 64 x 512 x 512", data_passes(16, 8, 262144, "rows columns", 2), "sweeps"),
    ("BatchNorm of 32 x 64 x 56 x 56", data_passes(64, 32, 3136, "rows columns", 2), "sweeps"),
    ("BatchNorm of 32 x 512 x 14 x 14", data_passes(512, 32, 196, "rows columns", 2), "islands"),
    ("BatchNorm of 8192 x 768", data_passes(1, 8192, 768, "rows", 2), "sweeps"),
    ("InstanceNorm, channels last", data_passes(32, 3136, 512, "rows", 2), "walked"),
    ("LayerNorm, channels first", data_passes(32, 256, 3136, "rows", 2), "islands"),
    ("a small batch", data_passes(4, 8, 100, "rows columns", 2), "islands"),
]


@pytest.mark.parametrize(
    ("candidates", "schedule"), [s[1:] for s in SCHEDULES], ids=[s[0] for s in SCHEDULES]
)
def test_a_schedule(candidates: dict[str, DataPass], schedule: str) -> None:
    assert tiles.choose_schedule(candidates, DEVICE, tiles.default_config()) == schedule


GRAPHS = [
    ("molecules", 4096, 98_000, 64, "walked"),
    ("a few small graphs", 8, 300, 128, "walked"),
    ("one large graph", 1, 170_000, 128, "sweeps"),
    ("many large graphs", 256, 1_000_000, 256, "walked"),
]


@pytest.mark.parametrize(
    ("groups", "rows", "columns", "schedule"), [g[1:] for g in GRAPHS], ids=[g[0] for g in GRAPHS]
)
def test_graphs(groups: int, rows: int, columns: int, schedule: str) -> None:
    walked = DataPass("walk", "part", groups, rows, columns, 2, groups=groups)
    assert tiles.choose_schedule({"walked": walked}, DEVICE, tiles.default_config()) == schedule


def test_whole_columns_are_no_wider_than_a_tile() -> None:
    """Else what a walk adds up for each of their places does not stay in registers."""
    for columns, schedule in ((4096, "walked"), (4097, "sweeps")):
        walked = DataPass("walk", "whole", 1000, 100_000, columns, 2, groups=1000)
        assert tiles.choose_schedule({"walked": walked}, DEVICE, tiles.default_config()) == schedule


def test_numbers_of_64_bits_take_two_registers() -> None:
    for keeps, schedule in ((2, "islands"), (4, "walked")):
        candidates = data_passes(1, 8192, 16384, "columns", keeps)
        assert tiles.choose_schedule(candidates, DEVICE, tiles.default_config()) == schedule


SIZES = (1, 3, 33, 1000, 5000)
COVERAGES = list(itertools.product(("part", "whole", "walk"), repeat=2))


@pytest.mark.parametrize(("down", "across"), COVERAGES)
@pytest.mark.parametrize("adds_up", [False, True])
def test_programs_cover_the_data(down: str, across: str, adds_up: bool) -> None:
    for outer, rows, columns, gathers in itertools.product((1, 7), SIZES, SIZES, (False, True)):
        gathers = gathers and down != "part"
        data_pass = DataPass(down, across, outer, rows, columns, 1, adds_up, gathers)
        chosen = tiles.pass_shape(data_pass, DEVICE, tiles.default_config())
        assert _covered(chosen, data_pass) >= (outer, rows, columns)


def _covered(chosen: LaunchShape, data_pass: DataPass) -> tuple[int, int, int]:
    """How many islands, rows and columns all programs reach together."""
    numbers = chosen.numbers
    down = {"part": numbers.get("chunks", 1) * numbers.get("rows of a chunk", 0)}
    across = {"part": numbers["blocks"] * numbers["BLOCK"]}
    down |= {"whole": numbers["ROWS"], "walk": data_pass.rows}
    across |= {"whole": numbers["BLOCK"], "walk": data_pass.columns}
    programs = chosen.programs // numbers["blocks"]
    if data_pass.gathers:
        programs *= numbers["islands of a chunk"]
    elif data_pass.down == "part":
        programs //= numbers["chunks"]
    return programs, down[data_pass.down], across[data_pass.across]


def test_cells_side_by_side() -> None:
    """Groups of ten channels have sixteen lanes each, and blocks have whole groups."""
    data_pass = DataPass("walk", "part", 8, 4096, 320, 2, cell=10)
    chosen = tiles.pass_shape(data_pass, DEVICE, tiles.default_config())
    assert chosen.numbers["LANES"] == 16 and chosen.numbers["BLOCK"] % 16 == 0
    assert chosen.numbers["blocks"] * (chosen.numbers["BLOCK"] // 16) >= 32
    assert chosen.programs == 8 * chosen.numbers["blocks"]


def test_what_adds_up_leaves_little() -> None:
    """A program that adds up has rows enough for what it leaves, if others have some, too."""
    for rows, min_rows in ((100_000, 32), (8192, 32), (500, 3)):
        data_pass = DataPass("part", "whole", 1, rows, 4096, 5, adds_up=True)
        chosen = tiles.pass_shape(data_pass, DEVICE, tiles.default_config())
        assert chosen.numbers["rows of a chunk"] >= min_rows
        assert chosen.programs == cdiv(rows, chosen.numbers["rows of a chunk"]) <= 4 * 132
