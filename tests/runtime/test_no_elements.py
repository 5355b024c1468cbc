"""A batch of no samples: gradients of all that came in are zero, so that optimizers find them."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS

import metanorm
from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.ir.reachable import outputs_without_first_input
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import call_module, make_module

SPECS = """
norm Scaled(eps = 1e-5) {
  input  x[N, C, T], scale[N, C], b[C], near: matrix[C, C], keep: mask[N, T] = true
  let    m = mean(x over C: near, T where keep)
  output scale * (x - m) / sqrt(var(x over T) + eps) + b
}
norm Two(eps = 1e-5) {
  input  x[N, C = c, T], scale[N, C]
  param  w[C] = 1
  output y = w * scale * normalize(x over T), size = sum(x^2 over T) * scale
}
"""


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_gradients_are_zero(program: Program, target: Any, library: ModuleType) -> None:
    setting = Setting("empty", empty=True)
    built = make_example(program, setting)
    norm = make_module(program, library, built, setting)
    inputs = {
        n: x.requires_grad_() if x is not None and x.is_floating_point() else x
        for n, x in built.inputs.items()
    }
    assert inputs[program.inputs[0].name].numel() == 0  # type: ignore[union-attr]
    leaves = {n: x for n, x in inputs.items() if x is not None and x.requires_grad}
    leaves |= dict(norm.named_parameters())
    with runtime.use(target):
        outputs = call_module(program, norm, inputs, built)
    apart = dict(outputs_without_first_input(program))  # which are as in any call
    for name, output in outputs.items():
        if name not in apart:
            grads = torch.autograd.grad(output.sum(), leaves.values(), retain_graph=True)
            assert [g.shape for g in grads] == [leaf.shape for leaf in leaves.values()]
            assert not any(g.any() for g in grads)
    sum(output.sum() for output in outputs.values()).backward()
    assert all(leaf.grad is not None for leaf in leaves.values())


@pytest.mark.parametrize("target", ["auto", "torch"])
def test_so_are_those_of_what_is_larger_than_the_first_input(target: Any) -> None:
    norms = metanorm.loads(SPECS)
    x = torch.randn(2, 3, 0, requires_grad=True)
    scale, b, near = torch.full((2, 3), torch.nan), torch.ones(3), torch.ones(3, 3)
    for leaf in (scale, b, near):
        leaf.requires_grad_()
    two = norms.Two(3)
    with runtime.use(target):
        y = norms.Scaled()(x, scale, b, near)
        pair = two(x, scale)
    assert y.shape == pair.y.shape == x.shape
    assert pair.size.shape == (2, 3) and not pair.size.any()  # also where a scale is NaN
    for output, leaves in (
        (y, (x, scale, b, near)),
        (pair.y, (x, scale, two.w)),
        (pair.size, (x, scale, two.w)),
    ):
        for grad, leaf in zip(torch.autograd.grad(output.sum(), leaves, retain_graph=True), leaves):
            assert torch.equal(grad, torch.zeros_like(leaf))


def test_all_norms_are_here() -> None:
    assert len(PROGRAMS) > 100


OTHERS = """
norm Apart(groups: int) {
  input  x[N, C = width], f[M, C], w[M] = 2
  param  gain[C] = 3
  let    told = mode(train: gain, eval: 2 * gain)
  let    centred = f - mean(f over C: blocks(groups))
  output y = x - mean(x over C: blocks(groups)), z = gain * centred * w, total = sum(x over N),
         length = w * size(C), told = told, w = w
}
"""


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("target", ["auto", "torch"])
def test_outputs_of_other_inputs_alone_are_computed(target: Any, training: bool) -> None:
    norm = metanorm.loads(OTHERS).Apart(2, 4).train(training)
    f = torch.randn(3, 4)
    for w in (None, torch.randn(3)):
        with runtime.use(target):
            one, none = norm(torch.randn(1, 4), f, w), norm(torch.randn(0, 4), f, w)
        assert none.y.shape == (0, 4) and none.y.dtype == f.dtype
        torch.testing.assert_close(none.total, torch.zeros(4))
        for name in ("z", "length", "told", "w"):
            torch.testing.assert_close(getattr(none, name), getattr(one, name))
        grads = [torch.autograd.grad(r.z.square().sum(), norm.gain)[0] for r in (one, none)]
        torch.testing.assert_close(*grads)
