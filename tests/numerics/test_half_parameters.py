"""Gradients of parameters in half precision are added up in single, and rounded once."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime

# Each has a gradient that is small beside the terms it is added up from.
SPECS = {
    "a map that keeps NaN out": "output x * tanh(normalize(p / (1 + abs(x)) over N where keep))",
    "a map, and its mean": "output (p / (1 + abs(x))) - mean(p / (1 + abs(x)) over N)",
    "the mean of itself": "output x * (p - mean(p over C weight w))",
    "a norm of itself": "output x * normalize(p over C weight w)",
}


def gradient(norm: type, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Of a parameter, by numbers that all types hold."""
    keep, w = torch.arange(len(x)) % 3 != 0, torch.linspace(0.5, 1, 8).bfloat16()
    module = norm(8, dtype=dtype)
    with torch.no_grad():
        module.p.copy_(torch.linspace(1, 2, 8).bfloat16())
    inputs = {"x": x.to(dtype), "keep": keep, "w": w.to(dtype)}
    with runtime.use("torch"):
        y = module(**inputs)
    y.backward(torch.linspace(-1, 1, y.numel()).bfloat16().view_as(y).to(dtype))
    parameter_gradient: Tensor = module.p.grad
    return parameter_gradient


@pytest.mark.parametrize("name", SPECS)
def test_gradients_are_rounded_once(name: str) -> None:
    norm = metanorm.loads(f"""
    # allow: MN0702
    norm A {{
      input  x[N, C = channels], keep: mask[N], w[C]
      param  p[C] = 1
      {SPECS[name]}
    }}
    """).A
    x = (torch.randn(200, 8) + 3).bfloat16()
    actual, expected = (gradient(norm, x, t) for t in (torch.bfloat16, torch.float64))
    torch.testing.assert_close(actual.double(), expected, rtol=2**-7, atol=1e-4)
