"""Hyperparameters that are one of several strings, by hand in plain torch."""

from __future__ import annotations

from itertools import product
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from metanorm import loads
from metanorm.runtime import use

F64 = torch.float64
SPEC = """
norm Chosen(mode: "node" | "graph" = "node", kind: "a" | "b-c" | "b_c", eps = 1e-5) {
  input x[V, C = c], batch: index[V]
  let a = normalize(x over C)
  let b = normalize(x over V: batch, C)
  output affine(where(mode == "graph", b, a) * where("b-c" != kind, 1, 2) + where(kind == "b_c", 3, 0) per C) }
norm Caller(mode: "node" | "graph") {
  input x[V, C = c], batch: index[V]
  output Chosen(x, batch, mode = mode, kind = "b-c") }
norm Fixed {
  input x[V, C = c], batch: index[V]
  output Chosen(x, batch, kind = "b_c") }
norm Opposites(mode: "node" | "graph" | "row" = "node") {
  input x[V, C = c], batch: index[V]
  let is_other = mode != "graph"
  let a = where(mode == "graph", mean(x over V: batch), 2 * x)
  output where(is_other, x, 3 * x) * a + (mode != "graph") * mean(x over C where is_other) }
norm InALoop(mode: "node" | "graph" = "node") {
  input x[V, C = c]
  let a = x
  repeat 2 { a = a + where("graph" != mode, tanh(a), sin(a)) }
  output a }
norm Rows(by: "length" | "mean" = "length") for gradient {
  input grad[O, *I]
  output grad / where(by == "length", l2(grad over *I), mean(abs(grad) over *I)) }
"""
BATCH = torch.tensor([0, 1, 1, 0, 1, 2])


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def by_hand(x: Tensor, mode: str, kind: str, weight: Tensor, bias: Tensor) -> Tensor:
    rows = []
    for row, graph in zip(x, BATCH):
        pool = x[graph == BATCH] if mode == "graph" else row
        rows.append((row - pool.mean()) / (pool.var(correction=0) + 1e-5).sqrt())
    y = torch.stack(rows) * (1 if kind != "b-c" else 2) + (3 if kind == "b_c" else 0)
    return y * weight + bias


def compare(norm: nn.Module, mode: str, kind: str) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.uniform_(-1, 1)
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    right = by_hand(x, mode, kind, norm.weight, norm.bias)
    actual = norm(x, BATCH)
    torch.testing.assert_close(actual, right)
    direction = torch.randn_like(right)
    inputs = (x, norm.weight, norm.bias)
    gradients = (torch.autograd.grad(y, inputs, direction) for y in (actual, right))
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("mode, kind", [*product(("node", "graph"), ("a", "b-c", "b_c"))])
def test_each_choice(norms: ModuleType, mode: str, kind: str) -> None:
    compare(norms.Chosen(kind, 4, mode=mode).double(), mode, kind)


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("mode", ["node", "graph", "row"])
def test_a_string_and_its_opposite_are_one_flag(norms: ModuleType, mode: str, target: str) -> None:
    norm = norms.Opposites(4, mode=mode).double()
    assert norm.mode_is_graph == (mode == "graph") and not hasattr(norm, "mode_is_not_graph")
    x = torch.randn(6, 4, dtype=F64)
    if mode == "graph":
        right = 3 * x * torch.stack([x[graph == BATCH].mean(0) for graph in BATCH])
    else:
        right = 2 * x**2 + x.mean(1, keepdim=True)
    with use(target):
        torch.testing.assert_close(norm(x, BATCH), right)


@pytest.mark.parametrize("mode", ["node", "graph"])
def test_the_opposite_chooses_in_a_loop(norms: ModuleType, mode: str) -> None:
    x = torch.randn(6, 4, dtype=F64)
    step = torch.sin if mode == "graph" else torch.tanh
    right = x + step(x)
    torch.testing.assert_close(norms.InALoop(4, mode=mode)(x), right + step(right))


def test_the_first_choice_is_the_default_that_is_written(norms: ModuleType) -> None:
    compare(norms.Chosen("a", 4).double(), "node", "a")


def test_a_choice_is_read_at_each_call(norms: ModuleType) -> None:
    norm = norms.Chosen("a", 4).double()
    norm.mode = "graph"
    compare(norm, "graph", "a")


@pytest.mark.parametrize("mode", ["node", "graph"])
def test_a_call_hands_a_choice_on(norms: ModuleType, mode: str) -> None:
    compare(norms.Caller(mode, 4).double(), mode, "b-c")


def test_a_call_leaves_a_choice_out(norms: ModuleType) -> None:
    compare(norms.Fixed(4).double(), "node", "b_c")


@pytest.mark.parametrize("by", ["length", "mean"])
def test_a_choice_of_a_norm_for_gradients(norms: ModuleType, by: str) -> None:
    grad = torch.randn(3, 2, 5, dtype=F64)
    flat = grad.flatten(1)
    size = flat.norm(dim=1) if by == "length" else flat.abs().mean(1)
    torch.testing.assert_close(norms.Rows(by=by)(grad), grad / size[:, None, None])


def test_other_strings_are_refused(norms: ModuleType) -> None:
    with pytest.raises(ValueError, match="mode must be 'node' or 'graph', got 'edge'"):
        norms.Chosen("a", 4, mode="edge")
    norm = norms.Chosen("a", 4)
    norm.mode = None
    with pytest.raises(ValueError, match="mode must be 'node' or 'graph', got None"):
        norm(torch.randn(6, 4), BATCH)
    assert "mode=node" in repr(norms.Chosen("a", 4))
