"""Padding that a mask leaves out may hold anything, in any input, however it enters a statistic."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime

N, C, L = 3, 2, 4
PADDING = {
    "Product": "mean(w * x * s over N, L where keep)",
    "Quotient": "mean(x / (w * s) over N, L where keep)",
    "Exponential": "mean(x * exp(w * s) over N, L where keep)",
    "Narrow": "mean(r * w * x over N, L where keep)",
    "Spread": "var(x * s + w over N, L where keep)",
    "Power": "mean((x^2 + 1)^(w * s) over N, L where keep)",
    "Logarithm": "sum(w * log(s) * x over N: blocks(1), L where keep)",
    "Root": "mean(sqrt(s) * sigmoid(w * x) over L where keep)",
    "Shifted": "mean((x - s) / (1 + r^2) * w + s over N, L where keep)",
    "Weighed": "mean(w * x over N, L where keep weight s)",
    "Normalized": "mean(w * normalize(x * s over N, L where keep) over N, L where keep)",
}


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    inputs = "input x[N, C, L], s[N, L], r[N, L], keep: mask[N, L]\n  param w[C] = 1"
    return metanorm.loads(
        "# allow: MN0702\n".join(
            ["", *(f"norm {n} {{\n {inputs}\n output x - {e}\n}}\n" for n, e in PADDING.items())]
        )
    )


def gradients(norm: Any, padding: float, target: Any) -> tuple[Tensor, ...]:
    """What counts of the result, and the gradients of x where it counts, and of all else."""
    random = torch.Generator().manual_seed(3)
    keep = torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.bool)
    x, *inner = (
        torch.rand(shape, generator=random, dtype=torch.float64) + 0.5
        for shape in ((N, C, L), (N, L), (N, L))
    )
    x, s, r = (
        torch.where(keep[:, None] if t.dim() == 3 else keep, t, padding).requires_grad_()
        for t in (x, *inner)
    )
    with runtime.use(target):
        y = torch.where(keep[:, None], norm(x, s, r, keep), 0)
    d = torch.randn(y.shape, generator=random, dtype=y.dtype)
    grads = torch.autograd.grad(y, (x, s, r, norm.w), d, allow_unused=True, materialize_grads=True)
    return (y, *grads)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("padding", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", PADDING)
def test_what_a_mask_leaves_out_reaches_nothing(
    name: str, padding: float, target: Any, norms: ModuleType
) -> None:
    norm = getattr(norms, name)(C, dtype=torch.float64)
    right = gradients(norm, 1.0, "torch")
    for actual, expected in zip(gradients(norm, padding, target), right):
        torch.testing.assert_close(actual, expected)
