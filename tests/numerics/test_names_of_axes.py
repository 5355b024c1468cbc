"""Names of axes decide, not positions: in calls, renames and orders of inputs and outputs."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import metanorm
from metanorm import runtime

TARGETS = ["torch", "auto"]


def normalized(x: Tensor, *dims: int) -> Tensor:
    centred = x - x.mean(dims, keepdim=True)
    return centred / torch.sqrt(centred.square().mean(dims, keepdim=True) + 1e-5)


CALLS = """
use "layer_norm.norm"
use "rms_norm.norm"
norm OverT { input x[N, C, T]  reduce T }
norm Two { input x[N, C, T], t[N, T]  output x + t }
norm Rest { input x[N, *S, C]  reduce *S }
norm Inner { input x[*B, *D = shape]  output OverT2(x) }
norm OverT2 { input x[*B, *D = shape]  reduce *D }
norm Turned { input x[N, T, C]  output OverT(x) }
norm Partly { input x[N, T, L]  output OverT(x) }
norm Others { input x[A, B, C]  output OverT(x) }
norm Again { input x[N, T, C], u[T, N]  output Two(x, u) }
norm Spread { input x[N, H, W, C]  output Rest(x) }
norm Twice { input x[N, T, D]  output Inner(x) }
norm Deep(alpha: float, eps = 1e-5) {
  input  x[*B, *D = dim], fx[*B, *D]
  output LayerNorm(alpha * x + fx, eps = eps)
}
norm Tokens(eps = 1e-5) { input x[N, T, D]  output LayerNorm(x, eps = eps) }
norm Plain(eps = 1e-5) { input x[N, D]  output RMSNorm(x, eps = eps) }
"""


@pytest.fixture(scope="module")
def calls() -> ModuleType:
    return metanorm.loads(CALLS)


CALLED: dict[str, tuple[tuple[Any, ...], tuple[tuple[int, ...], ...], Any]] = {
    "Turned": ((), ((2, 5, 4),), lambda x: normalized(x, 1)),
    "Partly": ((), ((2, 5, 4),), lambda x: normalized(x, 1)),  # L is left for C
    "Others": ((), ((2, 5, 4),), lambda x: normalized(x, 1)),  # C is C, B is left for T
    "Again": ((), ((2, 5, 4), (5, 2)), lambda x, u: x + u.T[:, :, None]),
    "Spread": ((), ((2, 3, 4, 5),), lambda x: normalized(x, 1, 2)),
    "Twice": ((), ((2, 5, 4),), lambda x: normalized(x, 2)),
    "Deep": ((2.0, 4), ((2, 5, 4), (2, 5, 4)), lambda x, f: F.layer_norm(2 * x + f, (4,))),
    "Tokens": ((4,), ((2, 5, 4),), lambda x: F.layer_norm(x, (4,))),
    "Plain": ((4,), ((5, 4),), lambda x: F.rms_norm(x, (4,), eps=1e-5)),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", CALLED)
def test_a_call_matches_axes_by_name(name: str, target: Any, calls: ModuleType) -> None:
    arguments, shapes, right = CALLED[name]
    inputs = [torch.randn(shape) * 3 + 1 for shape in shapes]
    with runtime.use(target):
        y = getattr(calls, name)(*arguments)(*inputs)
    torch.testing.assert_close(y, right(*inputs), rtol=1e-5, atol=1e-5)


def test_two_groups_that_no_name_tells_apart_are_refused() -> None:
    with pytest.raises(metanorm.SpecError, match="MN0508"):
        metanorm.loads('use "layer_norm.norm"  norm A { input x[N, C, H]  output LayerNorm(x) }')


OUTPUTS = """
norm Hands {
  input  x[N, C], f[N, H, C]
  output y = x, a = f, b = 2 * f, c = stop(f) + mean(x over N, C)
}
norm Pools {
  input  x[N, C], f[N, H, C]
  output y = x, a = mean(f over N), b = f - mean(f over H)
}
norm Wide {
  input  x[N, C, T], f[N, T, C]
  output y = x * f, a = f, b = f + mean(f over T), c = x + f
}
norm Declares {
  input  x[N, C], f[N, H, C]
  let    q[N, H, C] = x + f
  output y = x, a = q, b = 2 * q, c = x + f
}
norm Renames {
  input  x[N, C, T], f[N, C]
  let    g[C, N] = f
  output y = x, a = g, b = f, c = x[T -> U]
}
norm Second { input x[N, C, *S], t[M, C, *S]  output y = x, z = t - mean(t over M, *S) }
norm Table {
  input  x[N, C = c], label: index[N] of K = k
  param  table[K, C] = normal(0, 1)
  output y = x, rows = 2 * table, chosen = table[label]
}
"""


@pytest.fixture(scope="module")
def outputs() -> ModuleType:
    return metanorm.loads(OUTPUTS)


@pytest.mark.parametrize("target", TARGETS)
def test_outputs_keep_their_axes(target: Any, outputs: ModuleType) -> None:
    x, f = torch.randn(2, 4), torch.randn(2, 3, 4)
    with runtime.use(target):
        outputs_of_call = outputs.Hands()(x, f)
        assert torch.equal(outputs_of_call.a, f) and torch.equal(outputs_of_call.b, 2 * f)
        torch.testing.assert_close(outputs_of_call.c, f + x.mean())
        outputs_of_call = outputs.Pools()(x, f)
        torch.testing.assert_close(outputs_of_call.a, f.mean(0))
        torch.testing.assert_close(outputs_of_call.b, f - f.mean(1, keepdim=True))
        outputs_of_call = outputs.Declares()(x, f)
        torch.testing.assert_close(outputs_of_call.a, x[:, None] + f)
        torch.testing.assert_close(outputs_of_call.b, 2 * (x[:, None] + f))
        torch.testing.assert_close(outputs_of_call.c, x[:, None] + f)
        x, t = torch.randn(2, 3, 5), torch.randn(4, 3, 5)
        outputs_of_call = outputs.Second()(x, t)
        torch.testing.assert_close(outputs_of_call.z, t - t.mean((0, 2), keepdim=True))
        norm, x = outputs.Table(4, 3), torch.randn(2, 4)
        outputs_of_call = norm(x, torch.tensor([2, 0]))
        torch.testing.assert_close(outputs_of_call.rows, 2 * norm.table)
        torch.testing.assert_close(outputs_of_call.chosen, norm.table[[2, 0]])
        x, f = torch.randn(2, 4, 3), torch.randn(2, 4)
        outputs_of_call = outputs.Renames()(x, f)
        assert (
            torch.equal(outputs_of_call.a, f.T)
            and torch.equal(outputs_of_call.b, f)
            and torch.equal(outputs_of_call.c, x)
        )


@pytest.mark.parametrize("target", [*TARGETS, "native"])
def test_inputs_as_large_as_the_first_may_have_another_order(
    target: Any, outputs: ModuleType
) -> None:
    """Forward and backward: kernels read strides, which have the order of each input."""
    x = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    f = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    with runtime.use(target):
        y, a, b, c = outputs.Wide()(x, f)
    right = (x * f.mT, f, f + f.mean(1, keepdim=True), x + f.mT)
    for actual, expected in zip((y, a, b, c), right):
        torch.testing.assert_close(actual, expected)
    weights = [torch.randn_like(t) for t in right]
    actual = torch.autograd.grad(sum((t * w).sum() for t, w in zip((y, a, b, c), weights)), (x, f))
    expected = torch.autograd.grad(sum((t * w).sum() for t, w in zip(right, weights)), (x, f))
    for left, again in zip(actual, expected):
        torch.testing.assert_close(left, again)


def test_an_output_need_not_read_the_first_input() -> None:
    norm = metanorm.loads("norm Bias { input x[N, C], beta[N, C]  output beta }").Bias()
    x, beta = torch.randn(2, 3), torch.randn(2, 3, requires_grad=True)
    for target in ("torch", "native"):
        with runtime.use(target):
            y = norm(x, beta)
        assert torch.equal(y, beta)
        assert torch.equal(torch.autograd.grad(y.sum(), beta)[0], torch.ones(2, 3))


RENAMED = """
norm Product { input x[N, C]  let a = x[C -> D] * x[C -> E]  output x - sum(a over D, E) }
norm Means {
  input  x[N, C, *S]
  let    m = mean(x over *S)
  output x - sum(m[C -> D] * m[C -> E] over D, E)
}
"""


@pytest.mark.parametrize("target", [*TARGETS, "native"])
def test_one_value_under_two_names_of_an_axis(target: Any) -> None:
    norms = metanorm.loads(RENAMED)
    shapes = {"Product": (3, 5), "Means": (3, 5, 4)}
    if target == "native":
        shapes.pop("Product")  # torch alone: renames a value as large as the input
    for name, shape in shapes.items():
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        with runtime.use(target):
            y = getattr(norms, name)()(x)
        m = x if name == "Product" else x.mean(2)
        right = x - m.sum(1).square().view(3, *[1] * (x.dim() - 1))
        torch.testing.assert_close(y, right)
        dy = torch.randn_like(y)
        torch.testing.assert_close(
            torch.autograd.grad(y, x, dy)[0], torch.autograd.grad(right, x, dy)[0]
        )
