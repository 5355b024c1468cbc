"""Tiles that are tried: which ones win, and that nothing else changes by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from layers import layer
from recorder import Recorder, compiled, recording
from torch import nn

from metanorm import runtime
from metanorm.runtime.kernels.errors import CannotBuild
from metanorm.runtime.triton import tuning

SHAPE = (64, 4, 512)  # of which no island fits a tile


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    with recording() as recorder, runtime.use("triton"):
        yield recorder


@pytest.fixture
def module() -> nn.Module:
    return layer("batch_norm", compiled("batch_norm"), torch.float32)


Grids = list[tuple[tuple[int, int, int], int]]


@pytest.fixture
def tried(recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> list[Grids]:
    """What each candidate launches, which runs twice; the third one is the fastest."""
    grids_of_candidates: list[Grids] = []

    def clock(call: Callable[[], None]) -> float:
        call()
        grids_of_candidates.append(grids(recorder, call))
        return 1.0 if len(grids_of_candidates) == 3 else 2.0

    monkeypatch.setattr(tuning, "milliseconds", clock)
    monkeypatch.setattr(tuning, "_enabled", None)
    runtime.autotune()
    return grids_of_candidates


def grids(recorder: Recorder, call: Callable[[], Any]) -> Grids:
    """Programs and warps of the launches of a call."""
    before = len(recorder.launches)
    call()
    return [(one.grid, one.warps) for one in recorder.launches[before:]]


def test_the_fastest_tiles_are_kept(
    recorder: Recorder, module: nn.Module, tried: list[Grids]
) -> None:
    first = grids(recorder, lambda: module(torch.randn(SHAPE)))
    assert len({str(candidate) for candidate in tried}) > 3
    assert len(first) == 2 * sum(map(len, tried)) + len(tried[2])
    assert first[-len(tried[2]) :] == tried[2]
    number = len(tried)
    assert grids(recorder, lambda: module(torch.randn(SHAPE))) == tried[2]
    assert len(tried) == number, "later calls try nothing"


def test_running_statistics_are_updated_once(
    recorder: Recorder, module: nn.Module, tried: list[Grids]
) -> None:
    """Candidates run on copies of what kernels change."""
    module(torch.randn(SHAPE))
    updates = [one.arguments["running_mean"] for one in recorder.launches
               if "running_mean" in one.arguments]  # fmt: skip
    assert len(updates) == 2 * len(tried) + 1
    assert updates.count(module.running_mean.data_ptr()) == 1 and len(set(updates)) == 2


def test_nothing_is_tried_that_nobody_asked_for(
    recorder: Recorder, module: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning, "milliseconds", None)
    once, again = (grids(recorder, lambda: module(torch.randn(SHAPE))) for _ in range(2))
    assert once == again


def test_the_environment_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "_enabled", None)
    assert not tuning.is_enabled()
    monkeypatch.setenv("METANORM_AUTOTUNE", "1")
    assert tuning.is_enabled()
    runtime.autotune(False)
    assert not tuning.is_enabled()


def test_what_cannot_be_compiled_does_not_win() -> None:
    def call(candidate: str) -> None:
        if candidate != "good":
            raise CannotBuild(candidate, "")

    def clock(run: Callable[[], None]) -> float:
        run()
        return 1.0

    assert tuning.fastest(["bad", "good", "worse"], call, clock) == "good"
    with pytest.raises(CannotBuild, match="bad"):
        tuning.fastest(["bad", "worse"], call, clock)
