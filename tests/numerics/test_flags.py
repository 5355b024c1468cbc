"""A flag chooses before anything is computed: what it does not choose reaches nothing."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

import metanorm
from metanorm import runtime

SPECS = """
norm Plain(flag = true) {
  input  x[N, C]
  output where(flag, x - mean(x over C), sqrt(-1 - x^2) / sum(x over N))
}
norm Two(flag = false, other = true) {
  input  x[N, C = c]
  param  w[C] = 1
  let    m = moments(x over C)
  let    s = where(flag, sqrt(m.var), 1)
  output where(other, (x - m.mean) / s * w, x * log(w - 2)) + where(flag, 1, 2)
}
norm Tracked(flag = true, momentum = 0.1) {
  input  x[N, C, *S]
  output where(flag, normalize(x over N, *S track momentum), x)
}
norm Caller { input x[N, C]  output Plain(x, flag = true) }
"""
F64 = torch.float64
target_of_each = pytest.mark.parametrize("target", ["torch", "auto", "native"])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return metanorm.loads(SPECS)


@target_of_each
def test_what_is_not_chosen_reaches_no_gradient(target: Any, norms: ModuleType) -> None:
    for norm in (norms.Plain(), norms.Caller()):
        x = torch.randn(3, 4, dtype=F64, requires_grad=True)
        with runtime.use(target):
            y = norm(x)
        right = x - x.mean(1, keepdim=True)
        torch.testing.assert_close(y, right)
        dy = torch.randn_like(y)
        with runtime.use(target):
            (gradient,) = torch.autograd.grad(y, x, dy)
        torch.testing.assert_close(gradient, torch.autograd.grad(right, x, dy)[0])
    with runtime.use(target):
        assert norms.Plain(False)(x).isnan().all()


@target_of_each
@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("other", [True, False])
def test_flags_of_one_norm(flag: bool, other: bool, target: Any, norms: ModuleType) -> None:
    norm = norms.Two(4, flag, other, dtype=F64)
    x = torch.randn(3, 4, dtype=F64, requires_grad=True)
    w = torch.full((4,), 1.0 if other else 3.0, dtype=F64, requires_grad=True)
    norm.w.data.copy_(w.detach())
    scale = torch.sqrt(x.var(1, keepdim=True, unbiased=False)) if flag else 1
    chosen = (x - x.mean(1, keepdim=True)) / scale * w if other else x * torch.log(w - 2)
    right = chosen + (1 if flag else 2)
    with runtime.use(target):
        y = norm(x)
        torch.testing.assert_close(y, right)
        gradients = torch.autograd.grad(y.square().sum(), (x, norm.w))
    for left, wanted in zip(gradients, torch.autograd.grad(right.square().sum(), (x, w))):
        torch.testing.assert_close(left, wanted)


@target_of_each
@pytest.mark.parametrize("flag", [True, False])
def test_running_statistics_move_whatever_a_flag_says(
    flag: bool, target: Any, norms: ModuleType
) -> None:
    ours, theirs = norms.Tracked(3, flag).double(), nn.BatchNorm1d(3, affine=False).double()
    x = torch.randn(4, 3, 5, dtype=F64)
    with runtime.use(target):
        y, batch = ours(x), theirs(x)
        torch.testing.assert_close(y, batch if flag else x)
        torch.testing.assert_close(ours.running_var, theirs.running_var)
        torch.testing.assert_close(ours.eval()(x), theirs.eval()(x) if flag else x)
