"""Islands of many sizes, each on the schedule that it gets: in a tile, or sweep by sweep."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from silence import quiet
from torch import Tensor, nn

sys.path.append(str(Path(__file__).parents[2] / "native"))
from layers import agree, channels_last, everything, weighted

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.triton import tiles
from metanorm.targets.live import module_from_files
from metanorm.workspace import load_library

__all__ = ["quiet"]  # a fixture for every test

LIBRARY = load_library()
Make = Callable[[ModuleType], nn.Module]

# A layer, the shape of its input, and the schedules of both directions.
SIZES: list[tuple[str, Make, tuple[int, ...], bool, tuple[str, str]]] = [
    ("layer_norm", lambda m: m.LayerNorm(700), (9, 700), False, ("islands", "islands")),
    ("layer_norm", lambda m: m.LayerNorm(20000), (5, 20000), False, ("sweeps", "sweeps")),
    ("rms_norm", lambda m: m.RMSNorm(40000), (4, 40000), False, ("sweeps", "sweeps")),
    ("instance_norm", lambda m: m.InstanceNorm(2), (3, 2, 150, 150), False, ("sweeps", "sweeps")),
    ("instance_norm", lambda m: m.InstanceNorm(40), (2, 40, 30, 30), True, ("sweeps", "sweeps")),
    ("group_norm", lambda m: m.GroupNorm(2, 6), (3, 6, 90, 90), False, ("sweeps", "sweeps")),
    ("group_norm", lambda m: m.GroupNorm(2, 6), (2, 6, 7, 7), True, ("islands", "islands")),
    ("group_norm", lambda m: m.GroupNorm(20, 60), (3, 60, 33, 33), True, ("sweeps", "sweeps")),
    ("batch_norm", lambda m: m.BatchNorm(5), (3, 5, 80, 80), False, ("sweeps", "sweeps")),
    ("batch_norm", lambda m: m.BatchNorm(3), (3, 3, 80, 80), False, ("sweeps", "sweeps")),
    ("positional_norm", lambda m: m.PositionalNorm(), (2, 700, 6, 6), False, ("sweeps", "sweeps")),
]  # fmt: skip


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The schedules of calls, in their order."""
    schedules: list[str] = []
    choice = tiles.choose_schedule

    def record(*arguments: Any) -> str:
        schedules.append(choice(*arguments))
        return schedules[-1]

    monkeypatch.setattr(tiles, "choose_schedule", record)
    return schedules


@functools.cache
def compiled(name: str) -> dict[str, str]:
    roots = [root for root in LIBRARY.roots if module_name(root) == name]
    return compile_specs(LIBRARY.sources, roots, Options(target="triton")).files


def module_of(name: str) -> ModuleType:
    """A module of its own, which remembers no layout."""
    return module_from_files(compiled(name), name)


def assert_matches_torch(module: nn.Module, x: Tensor, others: dict[str, Any]) -> None:
    """Both directions in float64, of numbers that are far from zero."""
    module = module.double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    expected = everything("torch", module, x, others, weighted)
    agree(everything("triton", module, x, others, weighted), expected, 1e-9, 1e-9)


# One of each pair of schedules, in each order of memory.
QUICK = {(last, schedules): size for size in reversed(SIZES) for *_, last, schedules in [size]}
PARAMETERS = [
    pytest.param(*size, marks=() if size in QUICK.values() else pytest.mark.extended)
    for size in SIZES
]


@pytest.mark.parametrize(("name", "make", "shape", "last", "schedules"), PARAMETERS)
def test_an_island_of_a_size(
    name: str, make: Make, shape: tuple[int, ...], last: bool, schedules: tuple[str, str],
    chosen: list[str],
) -> None:  # fmt: skip
    x = torch.randn(shape, dtype=torch.float64) + 3
    assert_matches_torch(make(module_of(name)), channels_last(x) if last else x, {})
    assert tuple(chosen) == schedules


GRAPH_NORMS = {
    "graph_norm": lambda m: m.GraphNorm(5),
    "graph_instance_norm": lambda m: m.GraphInstanceNorm(5),
    "graph_layer_norm": lambda m: m.GraphLayerNorm(5),
    "pair_norm": lambda m: m.PairNorm(),
    "mean_subtraction_norm": lambda m: m.MeanSubtractionNorm(),
}

# How many rows each graph has: none, one, more than a tile, all of them; few and long ones.
GRAPHS = {
    "of all kinds": ([0, 1, 1300, 0, 0, 2, 40, 513, 0, 7], "sweeps"),
    "one of all rows": ([900], "sweeps"),
    "two long ones": ([4000, 3900], "sweeps"),
}


@pytest.mark.parametrize("sizes", GRAPHS)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("name", GRAPH_NORMS)
def test_graphs(name: str, sizes: str, mixed: bool, chosen: list[str]) -> None:
    rows, schedule = GRAPHS[sizes]
    batch = torch.repeat_interleave(torch.arange(len(rows)), torch.tensor(rows))
    if mixed:
        batch = batch[torch.randperm(len(batch), generator=torch.Generator().manual_seed(0))]
    x = torch.randn(len(batch), 5, dtype=torch.float64) + 3
    assert_matches_torch(GRAPH_NORMS[name](module_of(name)), x, {"batch": batch})
    assert set(chosen) == {schedule}
