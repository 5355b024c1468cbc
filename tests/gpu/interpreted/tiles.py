"""Layers in tiles of a few elements: what is joined from several tiles, chunks and blocks."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from silence import quiet
from small import SMALL

sys.path.append(str(Path(__file__).parents[2] / "native"))
from layers import LAYERS, REGULAR, agree, beside, everything, layer, weighted

from metanorm.driver import compile_specs
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.runtime.triton import tiles
from metanorm.targets.live import module_from_files
from metanorm.workspace import load_library

__all__ = ["quiet"]  # a fixture for every test

LIBRARY = load_library()


@pytest.fixture(scope="module", params=LAYERS)
def named(request: pytest.FixtureRequest) -> tuple[str, ModuleType]:
    """A layer, and the module that has it."""
    roots = [root for root in LIBRARY.roots if module_name(root) == request.param]
    files = compile_specs(LIBRARY.sources, roots, Options(target="triton")).files
    return request.param, module_from_files(files, request.param)


LAYOUTS_AND_SCHEDULES = [
    ("contiguous", "sweeps"),
    ("strided", ""),
    pytest.param("contiguous", "", marks=pytest.mark.extended),
    pytest.param("channels last", "sweeps", marks=pytest.mark.extended),
]


@pytest.mark.parametrize(("lie", "schedule"), LAYOUTS_AND_SCHEDULES)
def test_tiles(
    named: tuple[str, ModuleType], lie: str, schedule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On one schedule, in many small tiles and in float64; or as small calls go, in float32."""
    if schedule:
        for constant, value in SMALL.items():
            monkeypatch.setattr(tiles, constant, value)
        monkeypatch.setattr(tiles, "choose_schedule", lambda *_: schedule)
    if lie == "strided":  # each phase of what is narrow in a launch of its own
        monkeypatch.setattr(tiles, "MAX_MERGED", 0)
    dtype = torch.float64 if schedule else torch.float32
    name, module = named
    norm = layer(name, module, dtype)
    x = torch.randn(LAYERS[name][1], dtype=torch.float64).to(dtype)
    others = beside(name, x)
    x = REGULAR[lie](x)
    expected = everything("torch", norm, x, others, weighted)
    try:
        results = everything("triton", norm, x, others, weighted)
    except RuntimeError as error:
        assert "one piece" in str(error)
        pytest.skip("torch serves dimensions that do not lie in one piece")
    bound = 1e-10 if dtype == torch.float64 else 1e-4
    agree(results, expected, bound, bound)
