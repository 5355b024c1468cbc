"""Gradients of exported programs: NaN in what does not count reaches no gradient of what does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanorm

pytestmark = pytest.mark.filterwarnings("ignore")  # torch deprecates traces

ROUTES: dict[str, Callable[[nn.Module, tuple[Tensor, ...]], Any]] = {
    "torch.export": lambda m, inputs: torch.export.export(m, inputs).module(),
    "torch.jit.trace": lambda m, inputs: torch.jit.trace(m, inputs, check_trace=False),
}
SPECS = {
    "scale and shift": "reduce N, T where keep  affine C",
    "a centre": "param centre[C] = 0.5  output (x - centre) * 2 * sum(x over T where keep)",
    "a function": "param p[C] = 2  output sum((abs(x) + 1)^p over T where keep) * x",
    "two roots": "param p[C] = 2  output sqrt(x^2 + p) / sqrt(var(x over T where keep) + 1)",
}


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("route", ROUTES)
def test_gradients_are_those_of_the_module(route: str, spec: str) -> None:
    norms = metanorm.loads(f"norm Padded {{ input x[N, C, T], keep: mask[N, T]  {SPECS[spec]} }}")
    module = norms.Padded(2).double()
    keep = torch.tensor([[True] * 4, [True, False, False, True], [True, True, False, True]])
    values = torch.randn(3, 2, 4, dtype=torch.float64)
    x = torch.where(keep[:, None], values, torch.nan)
    x[1, :, 1] = torch.inf
    program = ROUTES[route](module, (x, keep))
    results = []
    for function in (program, module):
        leaf = x.clone().requires_grad_()
        y = function(leaf, keep)
        loss = y.movedim(1, -1)[keep].pow(3).sum()
        results.append([y, *torch.autograd.grad(loss, [leaf, *function.parameters()])])
    (_, *ours), (_, *wanted) = results
    assert all(gradient.isfinite().all() for gradient in wanted), "the module itself is wrong"
    torch.testing.assert_close(results[0], results[1], equal_nan=True)
    assert all(gradient.any() for gradient in ours)
