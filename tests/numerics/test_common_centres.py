"""Differences from several centres, folded about one: what a small scale leaves is not lost."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime
from metanorm.runtime.targets import Target

Tensors = Mapping[str, Tensor]
UNUSED: Any = {"allow_unused": True, "materialize_grads": True}


def mean(x: Tensor, w: Tensor) -> Tensor:
    return (x * w[:, None]).sum(0) / w.sum()


def normalized(x: Tensor, w: Tensor) -> Tensor:
    gap = x - mean(x, w)
    return gap / (mean(gap**2, w) + 1e-5).sqrt()


class Case(NamedTuple):
    """A norm of large numbers, and the same by hand."""

    text: str
    right: Callable[[Tensors], Tensor]


NORMALIZED = """input x[N, D], w[N], v[N]
        let m = mean(x over N weight w)
        let y = (x - m) / sqrt(var(x over N weight w) + 1e-5)"""
CASES = {
    "weights": Case(f"{NORMALIZED} output y + x", lambda t: normalized(t["x"], t["w"]) + t["x"]),
    "weights, x first": Case(
        f"{NORMALIZED} output x - 2 * y", lambda t: t["x"] - 2 * normalized(t["x"], t["w"])
    ),
    "two weights": Case(
        f"{NORMALIZED} output y + (x - mean(x over N weight v))",
        lambda t: normalized(t["x"], t["w"]) + t["x"] - mean(t["x"], t["v"]),
    ),
    "three terms": Case(
        f"{NORMALIZED} output y + (x - mean(x over N weight v)) + 2 * x",
        lambda t: normalized(t["x"], t["w"]) + 3 * t["x"] - mean(t["x"], t["v"]),
    ),
    "a learned centre": Case(
        """param a[D = width] = 1 input x[N, D]
        output (x - a * mean(x over N)) / sqrt(var(x over N) + 1e-5) + x""",
        lambda t: (
            (t["x"] - t["a"] * t["x"].mean(0)) / (t["x"].var(0, correction=0) + 1e-5).sqrt()
            + t["x"]
        ),
    ),
    "a sum over centres": Case(
        """param c[K = count] = 0, s[K] = 1 input x[N, D]
        output sum((x - c) * s over K)""",
        lambda t: ((t["x"][..., None] - t["c"]) * t["s"]).sum(-1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("target", ["native", "torch"])
@pytest.mark.parametrize("name", CASES)
def test_gradients_of_what_moves_a_centre(name: str, target: Target) -> None:
    """In float32 as in float64, to more digits than a difference of large numbers has."""
    text, right = CASES[name]
    loaded = metanorm.loads(f"norm A(eps = 1e-5) {{ {text} }}")
    norm = loaded.A(*([3] if "count" in text else [4] if "width" in text else []))
    tensors = {"x": torch.randn(32, 4) * 1e8, "w": torch.rand(32) + 0.1, "v": torch.rand(32) + 0.1}
    tensors = {key: tensors[key] for key in tensors if f"{key}[N" in text}
    if "s[K]" in text:
        norm.s.data.copy_(torch.tensor([1.0, 1e-8, 1e-6]))
        norm.c.data.copy_(torch.tensor([1.0, 2.0, 3.0]))
    leaves = {**tensors, **dict(norm.named_parameters())}
    for leaf in tensors.values():
        leaf.requires_grad_()
    with runtime.use(target):
        y = norm(**tensors)
        seed = torch.randn_like(y)
        gradients = torch.autograd.grad(y, list(leaves.values()), seed, **UNUSED)
    exact = {key: leaf.detach().double().requires_grad_() for key, leaf in leaves.items()}
    wanted = torch.autograd.grad(right(exact), list(exact.values()), seed.double(), **UNUSED)
    for key, ours, theirs in zip(leaves, gradients, wanted):
        gap = (ours.double() - theirs).abs()
        if key == "x":
            assert (gap <= 1e-5 * theirs.abs().max()).all(), key
        else:
            assert (gap <= 1e-4 * theirs.abs() + 1e-5 * theirs.abs().max()).all(), (
                key,
                gap / theirs,
            )
