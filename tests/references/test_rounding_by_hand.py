"""`round`, alone and in the layers of BitNet, beside plain torch after the authors' code."""

from __future__ import annotations

import pytest
import torch
from conftest import ROOT
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from metanorm import loads, runtime

TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
TIES = torch.tensor([[-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.49999997, -0.49999997]])
BEYOND = torch.tensor(
    [[2.0**24 + 2, -(2.0**30), 3e38, torch.inf, -torch.inf, torch.nan, 0.3, -0.3]]
)


@TARGETS
@pytest.mark.parametrize(
    "x", [TIES, BEYOND, 40 * torch.randn(37, 65)], ids=["ties", "beyond", "many"]
)
def test_round_is_that_of_torch_with_the_gradient_of_its_argument(x: Tensor, target: str) -> None:
    norms = loads("norm Round {\n  input x[*B, D]\n  output round(x) * 1\n}")
    leaf = x.clone().requires_grad_()
    with runtime.use(target):
        y = norms.Round()(leaf)
        weights = torch.arange(x.numel()).view_as(x).float()
        y.backward(weights)
    torch.testing.assert_close(y, torch.round(x), rtol=0, atol=0, equal_nan=True)
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad, weights, rtol=0, atol=0)


def straight_through(x: Tensor, levels: Tensor) -> Tensor:
    return x + (levels - x).detach()


def activation_levels(x: Tensor) -> Tensor:
    scale = 127.0 / x.abs().max(dim=-1, keepdim=True).values.clamp(min=1e-5)
    return (x * scale).round().clamp(-128, 127) / scale


def weight_levels(w: Tensor) -> Tensor:
    scale = 1.0 / w.abs().mean().clamp(min=1e-5)
    return (w * scale).round().clamp(-1, 1) / scale


@TARGETS
def test_a_layer_of_bitnet_is_the_authors(target: str) -> None:
    norms = loads((ROOT / "specs" / "bit_linear.norm").read_text("utf-8"))
    linear = nn.Linear(48, 24, bias=False).double()
    norm = norms.BitRMSNorm(48).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(3, 5, 48, dtype=torch.float64, requires_grad=True)
    normed = F.rms_norm(x, (48,), norm.weight, 1e-6)
    w = linear.weight
    by_hand = F.linear(
        straight_through(normed, activation_levels(normed)), straight_through(w, weight_levels(w))
    )
    leaves = (x, norm.weight, linear.weight)
    expected = torch.autograd.grad(by_hand.cos().sum(), leaves)
    parametrize.register_parametrization(linear, "weight", norms.TernaryWeight())
    with runtime.use(target):
        y = linear(norm(x))
        gradients = torch.autograd.grad(y.cos().sum(), leaves)
    torch.testing.assert_close(y, by_hand)
    for actual, wanted in zip(gradients, expected):
        torch.testing.assert_close(actual, wanted)
