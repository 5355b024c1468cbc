"""Norms of the library that no catalogue of ours lists, beside references in plain torch."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from metanorm import loads

F64 = torch.float64


def test_act_norm_begins_with_mean_0_and_deviation_1(library: ModuleType) -> None:
    norm = library.ActNorm(3, eps=1e-30, dtype=F64)
    x = torch.randn(4, 3, 5, 2, dtype=F64) * 2 + 1
    right = nn.functional.batch_norm(x, None, None, training=True, eps=1e-30)
    torch.testing.assert_close(norm(x), right)
    y = torch.randn(2, 3, 5, 2, dtype=F64)
    mean, std = x.mean((0, 2, 3), keepdim=True), x.std((0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(norm(y), (y - mean) / std)
    torch.testing.assert_close(norm.eval()(y), (y - mean) / std)
    assert [name for name, _ in norm.named_parameters()] == ["bias", "weight"]


def test_dua_follows_samples_by_less_and_less(library: ModuleType) -> None:
    """As the authors' code does, which sets the momentum of torch's layer before each sample."""
    ours, theirs = library.DUABatchNorm(3, dtype=F64), nn.BatchNorm2d(3, dtype=F64)
    momentum = 0.1
    for _ in range(5):
        x = torch.randn(1, 3, 4, 4, dtype=F64) * 2 + 1
        momentum *= 0.94
        theirs.momentum = momentum + 0.005
        torch.testing.assert_close(ours.train()(x), theirs.train()(x))
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    ours.load_state_dict(theirs.state_dict() | {"share": torch.tensor(0.1)})


def test_robust_scaling_is_that_of_forecasters(library: ModuleType) -> None:
    """By NumPy's rules, series by series: one of them is constant, one has no deviation but one."""
    x = torch.randn(2, 7, 3, dtype=F64)
    x[1, :, 0] = 2
    x[1, :5, 1] = 1
    keep = torch.rand(2, 7) < 0.7
    keep[:, :5] = True
    actual = library.RobustScaler()(x, keep)
    right = torch.zeros_like(x)
    for n, c in torch.cartesian_prod(torch.arange(2), torch.arange(3)):
        observed = x[n, keep[n], c]
        centre = observed.quantile(0.5)
        mad = (observed - centre).abs().quantile(0.5)
        scale = mad if mad > 0 else 0.6745 * observed.std(correction=0)
        right[n, keep[n], c] = (observed - centre) / ((scale if scale > 0 else 1) + 1e-6)
    torch.testing.assert_close(actual, right)


def test_returns_are_divided_by_their_running_range(library: ModuleType) -> None:
    norm, span = library.ReturnNorm().double(), 0.0
    for scale in (100.0, 1000.0, 1.0):
        x = torch.randn(6, 5, dtype=F64, requires_grad=True) * scale
        value_range = x.quantile(0.95) - x.quantile(0.05)
        span = 0.99 * span + 0.01 * value_range.item()
        y = norm(x)
        torch.testing.assert_close(y, x / max(1, span))
        (grad,) = torch.autograd.grad(y.sum(), x)
        torch.testing.assert_close(grad, torch.full_like(x, 1 / max(1, span)))
    assert norm.span.item() == pytest.approx(span)
    torch.testing.assert_close(norm.eval()(x), x / max(1, span))


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_0_and_1(share: float) -> None:
    norm = loads("norm Q(q = 0.5) { input x[N, C] output x - quantile(x over C, q = q) }").Q(
        q=share
    )
    with pytest.raises(ValueError, match="share of a quantile must be between 0 and 1"):
        norm(torch.randn(2, 3))
