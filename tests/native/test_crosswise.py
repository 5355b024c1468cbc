"""Inputs that lie differently, and statistics that pool along different axes in one sweep."""

from __future__ import annotations

import pytest
import torch

import metanorm
from metanorm import runtime

TWO = """norm A(eps = 1e-5) {
  input  x[N, C, *S], y[N, C, *S]
  output normalize(x over *S) * y + y
}
"""
CROSSING = {
    "mean over N": ("mean(x over N)", "var(x over C, *S)", "(x - m) / sqrt(v + 1)"),
    "variance over S": ("mean(x over N)", "var(x over *S)", "x - m + v"),
    "both variances": ("var(x over N)", "var(x over C)", "x * m + v"),
}


def strided(x: torch.Tensor, how: str) -> torch.Tensor:
    """The same numbers, lying differently."""
    if how == "channels last":
        return x.movedim(1, -1).contiguous().movedim(-1, 1)
    return x.repeat_interleave(2, -1)[..., ::2] if how == "strided" else x


@pytest.mark.parametrize("first", ["contiguous", "channels last", "strided"])
@pytest.mark.parametrize("second", ["contiguous", "channels last", "strided"])
def test_gradients_lie_as_their_own_input(first: str, second: str) -> None:
    norm = metanorm.loads(TWO).A()
    x = strided(torch.randn(2, 4, 3, dtype=torch.float64), first).requires_grad_()
    y = strided(torch.randn(2, 4, 3, dtype=torch.float64), second).requires_grad_()
    with runtime.use("native"):
        assert torch.autograd.gradcheck(norm, (x, y))


@pytest.mark.parametrize("shape", [(5, 4, 2), (5, 4, 7), (70, 3, 300)])
@pytest.mark.parametrize("name", CROSSING)
def test_statistics_that_pool_crosswise(name: str, shape: tuple[int, ...]) -> None:
    m, v, output = CROSSING[name]
    lets = f"let m = {m}\n let v = {v}\n output {output}"
    norm = metanorm.loads(f"norm A {{\n input x[N, C, *S]\n {lets}\n}}\n").A()
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(shape, dtype=torch.float64)
    results = {}
    for target in ("auto", "torch"):
        with runtime.use(target):
            y = norm(x)
            results[target] = (y, *torch.autograd.grad(y, x, dy))
    for ours, right in zip(results["auto"], results["torch"]):
        torch.testing.assert_close(ours, right, rtol=1e-9, atol=1e-9)
