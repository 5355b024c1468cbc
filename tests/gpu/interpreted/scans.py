"""Pools that overlap: kernels look at what is near each cell or element, tile by tile. States that
move along an axis: kernels take one step after the other, many lines side by side."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from own import module_of_norm, triton_module
from silence import quiet
from small import SMALL
from torch import Tensor

sys.path.append(str(Path(__file__).parents[2] / "native"))
from dense_scans import POOLS, WEIGHTS, inputs, near_text, right
from layers import agree, everything, weighted

from metanorm.runtime import use
from metanorm.runtime.triton import tiles

__all__ = ["quiet"]  # a fixture for every test

QUICK = [("truncate", "weight heavy"), ("replicate", ""), ("few", "where keep"), ("all", "")]
N, C, T = 2, 2, 7
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

# A state for each line of elements, whose decays are their own; one for each line of cells, in
# either direction, which is returned; and a single one, read before each step.
STATES = """
  input  x[N, C, T], state[N, C] = 0, leak[T] = 0.5
  let    m = scan(0.2 * x over T, decay = sigmoid(x), start = state)
  let    level = scan(mean(x over C) over T, decay = leak, start = mean(state over C), {direction})
  let    steps = scan(leak over T, decay = 0.9)
  output (x - m.before) / sqrt(m^2 + 1) + level{moment} * steps.before, last = m[T = -1],
         level = level
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
def test_scans_are_sums_over_dense_matrices(pool: str, weights: str) -> None:
    """Of cells along time; gradients by weights, too."""
    norm = triton_module(near_text(pool, weights)).Near
    for width in (3, 4 * T) if pool != "all" else (1,):
        x, keep, heavy = inputs(N, C, T)
        with use("triton"):
            y = norm(width)(x, keep, heavy)
            wanted = right(x, keep, heavy, pool, weights, width)
            torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-9)
            seed = torch.randn_like(y)
            by = (x, heavy) if "heavy" in weights else (x,)
            gradients = torch.autograd.grad(y, by, seed)
        for ours, theirs in zip(gradients, torch.autograd.grad(wanted, by, seed)):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


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


@pytest.mark.parametrize("moment", ["", ".before"])
@pytest.mark.parametrize(
    "direction", ["reverse = true", pytest.param("reverse = false", marks=pytest.mark.extended)]
)
@pytest.mark.parametrize(
    "shape",
    [(N, C, T), *(pytest.param(s, marks=pytest.mark.extended) for s in ((3, 5, 1), (1, 1, 33)))],
)
def test_states_along_an_axis(shape: tuple[int, ...], direction: str, moment: str) -> None:
    others = {
        "state": torch.randn(shape[:2], dtype=torch.float64),
        "leak": torch.rand(shape[2], dtype=torch.float64),
    }
    x = torch.randn(shape, dtype=torch.float64)
    check(STATES.format(direction=direction, moment=moment), 1, x, others)


@pytest.mark.parametrize("reverse", [False, True])
def test_states_are_those_of_a_loop(reverse: bool) -> None:
    """Before and after each step, and their gradients, beside a loop over positions in torch."""
    norm = triton_module(f"""
        norm Leaky {{
          input  x[N, C, T], start[N] = 0
          let    m = scan(x over T, decay = sigmoid(x), start = start,
                          reverse = {str(reverse).lower()})
          output after = m, before = m.before
        }}
    """).Leaky()
    x = torch.randn(N, C, T, dtype=torch.float64, requires_grad=True)
    start = torch.randn(N, dtype=torch.float64, requires_grad=True)
    with use("triton"):
        ours = norm(x, start)
        loss = (ours.after * ours.before.cos()).sum()
        gradients = torch.autograd.grad(loss, (x, start))
    state = start[:, None].expand(N, C)
    before, after = [state] * T, [state] * T
    for t in reversed(range(T)) if reverse else range(T):
        before[t] = state
        state = after[t] = torch.sigmoid(x[..., t]) * state + x[..., t]
    by_loop = torch.stack(after, -1), torch.stack(before, -1)
    torch.testing.assert_close((ours.after, ours.before), by_loop, rtol=1e-9, atol=1e-9)
    loop_loss = (by_loop[0] * by_loop[1].cos()).sum()
    for ours_, theirs in zip(gradients, torch.autograd.grad(loop_loss, (x, start))):
        torch.testing.assert_close(ours_, theirs, rtol=1e-8, atol=1e-8)
