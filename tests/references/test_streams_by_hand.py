"""Moments that go from call to call, by hand over all that has been heard."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from metanorm import runtime

F64 = torch.float64


def cumulative(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The frames of [N, C, T], each by mean and variance of itself and all before it."""
    frames = []
    for t in range(x.shape[2]):
        heard = x[:, :, : t + 1].flatten(1)
        var, mean = torch.var_mean(heard, 1, correction=0, keepdim=True)
        frames.append((x[:, :, t] - mean) / (var + 1e-8).sqrt() * weight + bias)
    return torch.stack(frames, 2)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("offset", [0, 1e6])
def test_streaming_layer_norm(target: Any, offset: float, library: ModuleType) -> None:
    """Pieces of several lengths, and gradients through the moments of all pieces before."""
    norm = library.StreamingCumulativeLayerNorm(4).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_()
    x = (torch.randn(3, 4, 11, dtype=F64) + offset).requires_grad_()
    outputs, state = [], []
    with runtime.use(target):
        for piece in x.split([5, 1, 3, 2], dim=2):
            y, *state = norm(piece, *state)
            outputs.append(y)
        ours = torch.cat(outputs, 2)
        right = cumulative(x, norm.weight, norm.bias)
        tolerance = {"rtol": 1e-7, "atol": 1e-7 * max(1, offset * 1e-3)}
        torch.testing.assert_close(ours, right, **tolerance)
        whole = x.detach().flatten(1)
        torch.testing.assert_close(state[0], torch.full((3,), 44.0, dtype=F64))
        torch.testing.assert_close(state[1], whole.mean(1))
        torch.testing.assert_close(state[2], whole.var(1, correction=0))
        direction = torch.randn_like(right)
        operands = (x, norm.weight, norm.bias)
        actual = torch.autograd.grad(ours, operands, direction)
    expected = torch.autograd.grad(right, operands, direction)
    torch.testing.assert_close(actual, expected, **tolerance)


def test_moments_of_half_precision_stay_in_float32(library: ModuleType) -> None:
    norm, x = library.StreamingCumulativeLayerNorm(4), torch.randn(2, 4, 600).bfloat16()
    state = [torch.zeros(2) for _ in range(3)]
    for piece in x.split(200, dim=2):
        y, *state = norm(piece, *state)
        assert y.dtype == torch.bfloat16
    assert [s.dtype for s in state] == [torch.float32] * 3
    torch.testing.assert_close(state[0], torch.full((2,), 2400.0))
    torch.testing.assert_close(state[1], x.float().flatten(1).mean(1))
    torch.testing.assert_close(state[2], x.float().flatten(1).var(1, correction=0))
