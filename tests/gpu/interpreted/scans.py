"""Pools that overlap: kernels look at what is near each cell or element, tile by tile."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from own import module_of_norm
from silence import quiet
from small import SMALL
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "native"))
from layers import agree, everything, weighted

from metanorm.runtime.triton import tiles

__all__ = ["quiet"]  # a fixture for every test

POOLS = {
    "truncate": "window(w)",
    "zero": "window(w, edge = zero)",
    "replicate": "window(w, edge = replicate)",
    "few": "causal(w)",
    "all": "causal",
}
WEIGHTS = ("", "where keep", "weight heavy")
QUICK = [("truncate", "weight heavy"), ("replicate", ""), ("few", "where keep"), ("all", "")]
N, C, T = 2, 2, 7
ALONG_TIME = """
  input  x[N, C, T], keep: mask[N, T] = true, heavy[N, T] = 1
  let    m = moments(x over C, T: {pool} {weights})
  let    again = mean(max(x over C) over T: {pool} {weights})
  let    held = count(over T: {pool} {weights})
  output (x - m.mean) / sqrt(m.var + 0.1) + 0.1 * sum(x over C, T: {pool} {weights}) + again + held
"""
OF_ELEMENTS = """
  input  x[N, C, T], heavy[N, T] = 1
  let    m = moments(x over T: {pool} weight heavy)
  let    around = mean(tanh(x) over C: window(w), T: {pool})
  output (x - m.mean) / sqrt(m.var + 0.1) + around, spread = sum(x * around over T: {pool})
"""
IN_PLANES = """
  input  x[N, C, H, W], keep: mask[N, H] = true
  let    m = moments(x over C, H: window(w), W: window(2, edge = replicate))
  let    past = std(x over C, H: causal(w) where keep)
  output (x - m.mean) / sqrt(m.var + 0.1) + past, level = m.mean, past = past
"""
IN_SEGMENTS = """
  input  x[V, C], ends: offsets[V]
  let    m = moments(x over C, V: causal within ends)
  let    near = mean(x over C, V: window(w) within ends)
  output (x - m.mean) / sqrt(m.var + 0.1) + near
"""


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    for constant, value in SMALL.items():
        monkeypatch.setattr(tiles, constant, value)


def check(body: str, width: int, x: Tensor, others: dict[str, Tensor]) -> None:
    hypers = {"w": width} if "(w" in body else {}
    module = module_of_norm(body, hypers)
    expected = everything("torch", module, x, others, weighted)
    agree(everything("triton", module, x, others, weighted), expected, 1e-9, 1e-9)


@pytest.mark.parametrize(
    ("pool", "weights"),
    [
        pytest.param(p, w, marks=[] if (p, w) in QUICK else [pytest.mark.extended])
        for p in POOLS
        for w in WEIGHTS
    ],
)
def test_scans_along_time(pool: str, weights: str) -> None:
    body = ALONG_TIME.format(pool=POOLS[pool], weights=weights)
    for width in (3, 4 * T) if pool != "all" else (1,):
        heavy = torch.rand(N, T, dtype=torch.float64)
        heavy[1, 2:6] = 0
        keep = torch.rand(N, T) > 0.3
        keep[0, :4] = False
        x = torch.randn(N, C, T, dtype=torch.float64) + 1
        inputs = {"keep": keep, "heavy": heavy}
        check(body, width, x, {n: t for n, t in inputs.items() if n in weights})


@pytest.mark.parametrize(
    "pool", ["truncate", pytest.param("zero", marks=pytest.mark.extended), "all"]
)
def test_scans_of_elements(pool: str) -> None:
    heavy = torch.rand(N, T, dtype=torch.float64)
    heavy[0, 1:5] = 0
    x = torch.randn(N, 3, T, dtype=torch.float64) + 1
    check(OF_ELEMENTS.format(pool=POOLS[pool]), 3, x, {"heavy": heavy})


@pytest.mark.parametrize("width", [4, pytest.param(20, marks=pytest.mark.extended)])
def test_scans_in_planes(width: int) -> None:
    keep = torch.rand(N, 5) > 0.3
    check(IN_PLANES, width, torch.randn(N, C, 5, 4, dtype=torch.float64), {"keep": keep})


@pytest.mark.parametrize("width", [3, pytest.param(30, marks=pytest.mark.extended)])
def test_scans_in_segments(width: int) -> None:
    ends = torch.tensor([0, 1, 1, 4, 9])
    check(IN_SEGMENTS, width, torch.randn(9, C, dtype=torch.float64), {"ends": ends})
