"""What else sees a call through C: profilers, hooks, checkpoints and what autograd asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from paths import called, takes_c, through_c
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

import metanorm
from metanorm.runtime.backends import through_python

pytestmark = through_c


@pytest.fixture
def norm() -> nn.Module:
    return called()


@pytest.mark.parametrize("through", ["c", "python"])
def test_a_profiler_sees_kernels_by_name(norm: nn.Module, through: str) -> None:
    x = torch.randn(3, 6, requires_grad=True)

    def step() -> list[str]:
        with profile(activities=[ProfilerActivity.CPU]) as seen:
            norm(x).sum().backward()
        return [event.name for event in seen.events()]

    if through == "c":
        names = step()
    else:
        with through_python():
            names = step()
    assert {"metanorm::layer_norm", "metanorm::layer_norm_backward"} <= set(names)


def test_nodes_are_named_after_the_norm(norm: nn.Module) -> None:
    assert norm(torch.randn(2, 6)).grad_fn.name() == "LayerNormBackward"


def test_hooks_of_nodes_and_tensors(norm: nn.Module) -> None:
    x = torch.randn(3, 6, requires_grad=True)
    seen: list[str] = []
    y = norm(x)
    y.register_hook(lambda gradient: seen.append("output"))
    y.grad_fn.register_prehook(lambda gradients: seen.append("before"))
    y.grad_fn.register_hook(lambda inputs, outputs: seen.append("after"))
    x.register_hook(lambda gradient: seen.append("input"))
    (y * y.detach()).sum().backward()
    assert seen == ["output", "before", "after", "input"]


def test_a_hook_may_replace_a_gradient(norm: nn.Module) -> None:
    x, gradients = torch.randn(3, 6, requires_grad=True), []
    for how in (lambda g: 2 * g, lambda g: (2 * g.T).contiguous().T, lambda g: g + g):
        y = norm(x)
        y.register_hook(how)
        (gradient,) = torch.autograd.grad(y, x, y.detach().cos())
        gradients.append(gradient)
    assert torch.equal(gradients[0], gradients[1]) and torch.equal(gradients[0], gradients[2])


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints(norm: nn.Module, reentrant: bool) -> None:
    """Of a layout that no plan serves yet, and then again."""
    for shape in ((5, 6), (5, 6), (4, 2, 6)):
        x = torch.randn(shape, requires_grad=True)
        y = checkpoint(norm, x, use_reentrant=reentrant)
        torch.testing.assert_close(
            torch.autograd.grad(y.square().sum(), norm.weight, retain_graph=reentrant)[0]
            if not reentrant
            else _by_backward(y.square().sum(), norm.weight),
            torch.autograd.grad(norm(x).square().sum(), norm.weight)[0],
        )


def _by_backward(loss: Tensor, leaf: Any) -> Tensor:
    leaf.grad = None
    loss.backward()  # type: ignore[no-untyped-call]
    return leaf.grad  # type: ignore[no-any-return]


def test_anomaly_detection(norm: nn.Module) -> None:
    x = torch.full((3, 6), torch.nan, requires_grad=True)
    with (
        pytest.warns(UserWarning, match="Anomaly Detection|Error detected"),
        torch.autograd.detect_anomaly(check_nan=True),
        pytest.raises(RuntimeError, match=r"LayerNormBackward.*nan values"),
    ):
        norm(x).sum().backward()


def test_an_output_that_nobody_needs() -> None:
    """Autograd brings zeros as its gradient."""
    module = metanorm.loads("""
norm Two(eps = 1e-5) {
  input  x[N, C]
  output y = normalize(x over C), size = sum(x^2 over C)
}
""").Two()
    x = torch.randn(3, 5, requires_grad=True)
    for _ in range(2):
        result = module(x)
        (gradient,) = torch.autograd.grad(result.size.sum(), x)
        torch.testing.assert_close(gradient, 2 * x)
    assert takes_c(module)


def test_a_backward_pass_may_be_all_that_needs_no_gradient(norm: nn.Module) -> None:
    """Frozen parameters, or a frozen input."""
    x = torch.randn(3, 6)
    for of_x, of_weight, of_bias in (
        (True, False, False),
        (False, True, False),
        (True, True, True),
    ):
        leaf = x.clone().requires_grad_(of_x)
        norm.weight.requires_grad_(of_weight)  # type: ignore[operator]
        norm.bias.requires_grad_(of_bias)  # type: ignore[operator]
        wanted = [t for t in (leaf, norm.weight, norm.bias) if t.requires_grad]
        y, right = norm(leaf), nn.functional.layer_norm(leaf, (6,), norm.weight, norm.bias)
        for one, other in zip(
            torch.autograd.grad(y, wanted, x), torch.autograd.grad(right, wanted, x)
        ):
            torch.testing.assert_close(one, other)
