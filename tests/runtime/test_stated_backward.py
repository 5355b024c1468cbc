"""Stated backward passes where torch does something of its own with a module."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import metanorm
from metanorm import runtime
from metanorm.runtime.targets import Target

F64 = torch.float64
SPEC = """
norm Damped(momentum = 0.1, eps = 1e-5) {
  input  x[N, C = num_features, *S]
  buffer drift[C] = 0.5, phi[C] = 1
  let    ms = mean(x^2 over N, *S)
  let    z = x / sqrt(phi + eps)
  update phi = phi + momentum * (ms - phi)
  output affine(z per C)
  backward {
    let      g = grad * weight - drift * z
    gradient x = g / sqrt(ms + eps)
    update   drift = drift + mean(g * z over N, *S)
  }
}

norm Pair {
  input  x[N, D], h[N, D] = 1
  output y = x * h, twice = 2 * x
  backward {
    gradient x = grad.y + 10 * grad.twice
    gradient h = grad.twice
  }
}
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return metanorm.loads(SPEC)


@pytest.fixture
def damped(norms: ModuleType) -> nn.Module:
    norm: nn.Module = norms.Damped(3).double()
    with torch.no_grad():
        norm.weight.uniform_(0.5, 1.5)
    return norm


def inputs() -> Tensor:
    return torch.randn(4, 3, 5, dtype=F64, requires_grad=True)


def stated(norm: nn.Module, x: Tensor, grad: Tensor) -> tuple[Tensor, Tensor]:
    """The gradient of x, and the drift after the backward pass."""
    x = x.detach()
    z = x / (norm.phi + norm.eps).sqrt()[:, None]
    weight = torch.ones(3) if norm.weight is None else norm.weight.detach()
    g = grad * weight[:, None] - norm.drift[:, None] * z
    drift = norm.drift + (g * z).mean((0, 2))
    return g / (x.square().mean((0, 2)) + norm.eps).sqrt()[:, None], drift


@pytest.mark.parametrize("use_reentrant", [True, False])
def test_checkpoints_compute_the_same_gradient(damped: nn.Module, use_reentrant: bool) -> None:
    # The second forward pass moves `phi` once more, and reads it as the first one has left it.
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    once = copy.deepcopy(damped)
    once(x)
    wanted, drift = stated(once, x, grad)
    checkpoint(damped, x, use_reentrant=use_reentrant).backward(grad)
    torch.testing.assert_close(x.grad, wanted)
    torch.testing.assert_close(damped.drift, drift)


def test_several_calls_go_backward_from_the_last(damped: nn.Module) -> None:
    first, second = inputs(), inputs()
    grads = [torch.randn(4, 3, 5, dtype=F64) for _ in range(2)]
    before = copy.deepcopy(damped)
    y = damped(first)
    between = copy.deepcopy(damped)
    between.phi.copy_(damped.phi)
    z = damped(second)
    torch.autograd.backward([y + z], [torch.zeros_like(y)], retain_graph=True)
    damped.drift.fill_(0.5)
    first.grad = second.grad = None
    z.backward(grads[1])
    wanted, drift = stated(between, second, grads[1])
    torch.testing.assert_close(second.grad, wanted)
    before.drift.copy_(drift)
    y.backward(grads[0])
    wanted, drift = stated(before, first, grads[0])
    torch.testing.assert_close(first.grad, wanted)
    torch.testing.assert_close(damped.drift, drift)


def test_results_can_be_changed_in_place(damped: nn.Module) -> None:
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    wanted, _ = stated(damped, x, 2 * grad)
    damped(x).mul_(2).backward(grad)
    torch.testing.assert_close(x.grad, wanted)


def test_in_evaluation_all_gradients_are_derived(damped: nn.Module) -> None:
    damped.eval()
    drift = damped.drift.clone()
    assert torch.autograd.gradcheck(damped, (inputs(),))
    assert torch.autograd.gradgradcheck(damped, (inputs(),))
    assert torch.equal(damped.drift, drift)
    x = inputs()
    jacobian = torch.func.vmap(torch.func.grad(lambda x: damped(x[None]).sum()))(x.detach())
    torch.testing.assert_close(
        jacobian, (damped.weight / (damped.phi + 1e-5).sqrt())[:, None].expand_as(x)
    )


def test_without_gradients_nothing_is_stored(damped: nn.Module) -> None:
    drift = damped.drift.clone()
    with torch.no_grad():
        y = damped(inputs())
    assert not y.requires_grad
    for parameter in damped.parameters():
        parameter.requires_grad_(False)
    assert not damped(inputs().detach()).requires_grad
    assert torch.equal(damped.drift, drift)


def test_the_gradient_is_stated_without_parameters(norms: ModuleType) -> None:
    norm = norms.Damped(3, affine=False).double()
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    wanted, drift = stated(norm, x, grad)
    norm(x).backward(grad)
    torch.testing.assert_close(x.grad, wanted)
    torch.testing.assert_close(norm.drift, drift)


def test_parameters_alone_get_derived_gradients(damped: nn.Module) -> None:
    x, grad = inputs().detach(), torch.randn(4, 3, 5, dtype=F64)
    _, drift = stated(damped, x, grad)
    z = x / (damped.phi + damped.eps).sqrt()[:, None]
    damped(x).backward(grad)
    torch.testing.assert_close(damped.weight.grad, (grad * z).sum((0, 2)))
    torch.testing.assert_close(damped.drift, drift)


def test_outputs_bring_their_gradients(norms: ModuleType) -> None:
    x, h = (torch.randn(4, 3, requires_grad=True) for _ in range(2))
    g, t = torch.randn(4, 3), torch.randn(4, 3)
    y, twice = norms.Pair()(x, h)
    torch.autograd.backward([y, twice], [g, t])
    torch.testing.assert_close(x.grad, g + 10 * t)
    torch.testing.assert_close(h.grad, t)
    x.grad = None
    result = norms.Pair()(x)  # of which one output is used
    result.y.backward(g)
    torch.testing.assert_close(x.grad, g)
    assert type(result).__name__ == "PairOutput"


def test_the_function_takes_its_arguments_by_name_in_any_order(norms: ModuleType) -> None:
    x, h = (torch.randn(2, 3, dtype=F64, requires_grad=True) for _ in range(2))
    y, twice = norms.pair(training=True, h=h, x=x)
    (y + twice).sum().backward()
    torch.testing.assert_close(x.grad, torch.full_like(x, 11))
    y, twice = norms.pair(training=True, h=None, x=x)
    torch.testing.assert_close((y, twice), (x, 2 * x))
    with pytest.raises(TypeError, match="missing a required argument: 'x'"):
        norms.pair(training=True, h=h)
    with pytest.raises(TypeError, match="too many positional arguments"):
        norms.pair(x, h, True, 1)


def test_a_stated_gradient_has_no_gradient(damped: nn.Module) -> None:
    x = inputs()
    (gradient,) = torch.autograd.grad(damped(x).square().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="damped states its own backward pass, which cannot be"):
        gradient.sum().backward()


def of_x(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    return lambda x: norm(x).sum()


@pytest.mark.parametrize(
    "transform",
    [
        lambda norm, x: torch.func.grad(of_x(norm))(x),
        lambda norm, x: torch.func.vmap(norm)(x[None]),
        lambda norm, x: torch.func.jvp(norm, (x,), (x,)),
        torch.jit.trace,
    ],
    ids=["grad", "vmap", "jvp", "trace"],
)
def test_transforms_are_refused_in_training(
    damped: nn.Module, transform: Callable[[nn.Module, Tensor], object]
) -> None:
    with pytest.raises(RuntimeError, match="transforms of torch do not know: call it in eval"):
        transform(damped, inputs().detach())


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # Dynamo hides it
def test_graphs_break_around_a_call_in_training(damped: nn.Module) -> None:
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    wanted, drift = stated(damped, x, grad)
    torch.compile(damped, backend="aot_eager")(x).backward(grad)
    torch.testing.assert_close(x.grad, wanted)
    torch.testing.assert_close(damped.drift, drift)
    torch._dynamo.reset()
    whole = torch.compile(damped, backend="aot_eager", fullgraph=True)
    with pytest.raises(torch._dynamo.exc.Unsupported, match="damped states its own backward pass"):
        whole(x)
    damped.eval()
    torch.testing.assert_close(whole(x), damped(x))


def test_export_takes_the_forward_pass(damped: nn.Module) -> None:
    x = inputs().detach()
    damped.eval()
    program = torch.export.export(damped, (x,))
    torch.testing.assert_close(program.module()(x), damped(x))


def test_copies_and_pickles_work(damped: nn.Module) -> None:
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    for other in (copy.deepcopy(damped), pickle.loads(pickle.dumps(damped))):
        wanted, drift = stated(other, x, grad)
        x.grad = None
        other(x).backward(grad)
        torch.testing.assert_close(x.grad, wanted)
        torch.testing.assert_close(other.drift, drift)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gradients_have_the_dtype_of_the_input(damped: nn.Module, dtype: torch.dtype) -> None:
    x, grad = inputs(), torch.randn(4, 3, 5, dtype=F64)
    half = x.detach().to(dtype).requires_grad_()
    wanted, _ = stated(damped, half.double(), grad.to(dtype).double())
    damped.float()(half).backward(grad.to(dtype))
    assert half.grad is not None and half.grad.dtype == dtype
    torch.testing.assert_close(half.grad.double(), wanted, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("target", ["torch", "native"])
def test_an_input_without_elements_stores_nothing(damped: nn.Module, target: Target) -> None:
    x = torch.zeros(0, 3, 5, dtype=F64, requires_grad=True)
    drift = damped.drift.clone()
    with runtime.use(target):
        damped(x).sum().backward()
    assert torch.equal(damped.drift, drift)
    assert x.grad is not None and x.grad.shape == x.shape


def test_a_loop_begins_with_the_arriving_gradient() -> None:
    norm = metanorm.loads("""
norm Halved { input x[N]
  output x
  backward { let a = grad repeat 3 { a = a / 2 + x } gradient x = a } }
""").Halved()
    x, grad = torch.randn(4, requires_grad=True), torch.randn(4)
    norm(x).backward(grad)
    torch.testing.assert_close(x.grad, grad / 8 + 1.75 * x.detach())


def test_gradients_of_outputs_in_eight_bits_are_computed_wider() -> None:
    norm = metanorm.loads("""
norm Eighth { input x[N]
  output x as float8_e5m2, h = 2 * x
  backward { gradient x = 3 * grad.x + grad.h } }
""").Eighth()
    x = torch.randn(4, requires_grad=True)
    y, h = norm(x)
    assert y.dtype == torch.float8_e5m2
    (y.float() + h).sum().backward()
    torch.testing.assert_close(x.grad, torch.full((4,), 4.0))
