"""Largest and smallest values in C kernels: of what counts, for one worker and several."""

from __future__ import annotations

import pytest
import torch
from layers import agree, everything, weighted

import metanorm
from metanorm import runtime

MASK = torch.rand(6, 70, generator=torch.Generator().manual_seed(1)) < 0.5
MASK[2] = False  # nothing counts
NORMS = {
    "of islands": ("input x[N, T, D] output x / (1 + max(abs(x) over D))", {}),
    "of columns": ("input x[N, T, D] output x - max(x over N, T) + min(x over N)", {}),
    "of all": ("input x[N, T, D] output x * (1 + max(x over N, T, D) - min(x over N, T, D))", {}),
    "of what a mask leaves": (
        "input x[N, T, D], keep: mask[N, T] output x - max(x over T where keep)",
        {"keep": MASK},
    ),
    "of what weighs something": (
        "input x[N, T, D], w[N, T] output x - min(x over T weight w) * mean(x over T weight w)",
        {"w": MASK.double()},
    ),
    "of statistics": (
        "input x[N, T, D] let m = mean(x over T) output x - max(m over D) + min(m over N)",
        {},
    ),
}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("name", NORMS)
def test_extremes(name: str, threads: int) -> None:
    text, others = NORMS[name]
    norm = metanorm.loads(f"norm A {{ {text} }}").A()
    x = torch.randn(6, 70, 40, dtype=torch.float64)
    x[:, ::7] = 2  # equal ones share the gradient
    right = everything("torch", norm, x, others, weighted)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        agree(everything("native", norm, x, others, weighted), right)
    finally:
        torch.set_num_threads(before)


def test_nan_is_the_extreme() -> None:
    norm = metanorm.loads("norm A { input x[N, D] output x - max(x over D) + min(x over D) }").A()
    for place in (0, 5, 39):
        x = torch.randn(3, 40)
        x[1, place] = torch.nan
        with runtime.use("native"):
            y = norm(x)
        assert y[1].isnan().all() and y[[0, 2]].isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("sign", ["", "-"])
def test_optimised_extremes_of_runs_in_each_dtype(
    sign: str, dtype: torch.dtype, optimised: None
) -> None:
    """Sixteen numbers in float32 are chosen by positions in two vectors of eight."""
    extreme = "max(abs(x[I]) over I, T)" if not sign else "max(0 - abs(x[I]) over I, T)"
    norm = metanorm.loads(f"""
norm A(first: int) {{ input x[N, T, D]
  axis D = (I = first) + J
  output concat(x[I] / (1 + abs({extreme})), x[J] over D) }}
""").A
    for width, first in ((64, 32), (64, 40), (33, 31), (40, 32), (100, 50)):
        x = torch.arange(width + 5.0, 5.0, -1).to(dtype)[None, None]
        largest = x[..., :first].max() if not sign else x[..., :first].min()
        with runtime.use("native"):
            y = norm(first)(x)
        torch.testing.assert_close(y[..., :first], x[..., :first] / (1 + largest))
