"""Parameters that the constructor is asked for, by hand in plain torch."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import pytest
import torch
from comparing import assert_close_with_gradients
from torch import Tensor, nn

from metanorm import loads, runtime

F64 = torch.float64
SPEC = """
norm Switched(eps = 1e-5) {
  input  x[N, C = c], kind: index[N] of K = kinds
  param  weight[K, C] = 3 if affine, bias[K, C] = 0.25 if affine
  param  gate[C] = 0.5 in [0, 1] if gated off, scale = 2 if scaled
  output scale * gate * (weight[kind] * normalize(x over C) + bias[kind]) }
norm Caller {
  input  x[N, C = c], kind: index[N] of K = kinds
  let    plain = Switched(x, kind, affine = false, scaled = false)
  output plain + Switched(x, kind, gated = true) }
norm Shared {
  input  x[N, C = c], kind: index[N] of K = kinds
  let    first = Switched(x, kind, affine = false)
  output first * first(2 * x, kind) }
norm Ordered {
  input  x[N, C = c]
  param  gain[C] = 1, slope = 2 if sloped, after[C] = 0, before[C] = 1 if early off
  output gain * (before + slope * affine(x per C)) + after }
"""
KINDS = torch.tensor([1, 0, 1, 1, 2, 0])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def normalized(x: Tensor) -> Tensor:
    deviation = (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    return (x - x.mean(1, keepdim=True)) / deviation


def randomized(norm: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in norm.double().parameters():
            parameter.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("affine, gated, scaled", [*product((False, True), repeat=3)])
def test_what_is_left_out_counts_as_the_number_it_begins_with(
    affine: bool, gated: bool, scaled: bool, route: str, norms: ModuleType
) -> None:
    norm = randomized(norms.Switched(4, 3, affine=affine, gated=gated, scaled=scaled))
    present = {name for name, _ in norm.named_parameters()}
    wanted = {"weight": affine, "bias": affine, "gate": gated, "scale": scaled}
    assert present == {name for name, on in wanted.items() if on}
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    weight = norm.weight[KINDS] if affine else 3
    bias = norm.bias[KINDS] if affine else 0.25
    gate, scale = norm.gate if gated else 0.5, norm.scale if scaled else 2
    right = scale * gate * (weight * normalized(x) + bias)
    with runtime.use(route):
        assert_close_with_gradients(norm(x, KINDS), right, x, *norm.parameters())


def test_defaults_are_those_of_the_spec(norms: ModuleType) -> None:
    norm = norms.Switched(4, 3)
    assert (norm.affine, norm.gated, norm.scaled) == (True, False, True)
    assert norm.gate is None and norm.weight.shape == (3, 4)


@pytest.mark.parametrize("route", ["torch", "native"])
def test_a_call_says_which_parameters_a_norm_has(route: str, norms: ModuleType) -> None:
    norm = randomized(norms.Caller(4, 3))
    names = ["switched_weight", "switched_bias", "switched_gate", "switched_scale"]
    assert [name for name, _ in norm.named_parameters()] == names
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    z = normalized(x)
    plain = 2 * 0.5 * (3 * z + 0.25)
    weight, bias, gate, scale = norm.parameters()
    right = plain + scale * gate * (weight[KINDS] * z + bias[KINDS])
    with runtime.use(route):
        assert_close_with_gradients(norm(x, KINDS), right, x, *norm.parameters())


def test_calls_that_share_parameters_share_what_is_left_out(norms: ModuleType) -> None:
    """On torch: kernels refuse a table of unknown length."""
    norm = randomized(norms.Shared(4, 3))
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    first, second = (norm.first_scale * 0.5 * (3 * normalized(k * x) + 0.25) for k in (1, 2))
    with runtime.use("torch"):
        assert_close_with_gradients(norm(x, KINDS), first * second, x, *norm.parameters())


def test_parameters_come_as_they_are_declared_behind_those_of_affine(norms: ModuleType) -> None:
    """A switch moves none: optimizers keep their state by the position of a parameter."""
    norm = norms.Ordered(3, early=True)
    names = [name for name, _ in norm.named_parameters()]
    assert names == ["weight", "bias", "gain", "slope", "after", "before"]
    assert [n for n, _ in norms.Ordered(3).named_parameters()] == names[:-1]
    switched = [name for name, _ in norms.Switched(3, 2, gated=True).named_parameters()]
    assert switched == ["weight", "bias", "gate", "scale"]
