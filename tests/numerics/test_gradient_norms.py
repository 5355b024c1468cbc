"""Norms for gradients: on parameters, models and optimizers."""

from __future__ import annotations

import copy
import gc
import inspect
import weakref
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import metanorm
from metanorm import runtime
from metanorm.runtime import GradientNorm

F64 = torch.float64


def net() -> nn.Sequential:
    """Layers with weights of four and two dimensions, and with biases of one."""
    torch.manual_seed(1)
    layers = nn.Conv2d(2, 3, 2), nn.ReLU(), nn.Flatten(), nn.Linear(12, 4)
    return nn.Sequential(*layers).double()


def loss_of(model: nn.Module, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    x = torch.randn(5, 2, 3, 3, generator=g, dtype=F64)
    return model(x).sin().sum()


def centred(grad: Tensor) -> Tensor:
    """What the authors' code does, out of place."""
    dims = tuple(range(1, grad.dim()))
    return grad - grad.mean(dims, keepdim=True) if len(dims) > 0 else grad


def plain_gradients(*seeds: int) -> dict[str, Tensor]:
    model = net()
    for seed in seeds or (0,):
        loss_of(model, seed).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def gradients(model: nn.Module) -> dict[str, Tensor]:
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def assert_centred(actual: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert list(actual) == list(expected)
    for name, grad in actual.items():
        torch.testing.assert_close(grad, centred(expected[name]), rtol=1e-12, atol=1e-12)


def test_a_plain_function(library: ModuleType) -> None:
    function = import_module(f"{library.__name__}.centralization").gradient_centralization
    assert list(inspect.signature(function).parameters) == ["grad"]
    grad = torch.randn(4, 3, 2, 2)
    torch.testing.assert_close(function(grad), centred(grad))
    torch.testing.assert_close(library.GradientCentralization()(grad), centred(grad))


def test_on_a_model_gradients_are_normalized_as_they_arrive(library: ModuleType) -> None:
    model = net()
    attached = library.GradientCentralization().attach(model)
    assert len(attached) == 2
    assert attached.skipped == ("0.bias", "3.bias")
    loss_of(model).backward()
    assert_centred(gradients(model), plain_gradients())
    loss_of(model, 1).backward()  # and is added to what is there
    assert_centred(gradients(model), plain_gradients(0, 1))


def test_taken_off_it_does_nothing(library: ModuleType) -> None:
    model = net()
    with library.GradientCentralization().attach(model) as attached:
        pass
    attached.remove()
    loss_of(model).backward()
    for name, grad in plain_gradients().items():
        torch.testing.assert_close(model.get_parameter(name).grad, grad)


def test_on_a_parameter_alone(library: ModuleType) -> None:
    model = net()
    library.GradientCentralization().attach(model[0].weight)
    loss_of(model).backward()
    unchanged = plain_gradients()
    torch.testing.assert_close(model[0].weight.grad, centred(unchanged["0.weight"]))
    torch.testing.assert_close(model[3].weight.grad, unchanged["3.weight"])


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: torch.optim.Adam(p, lr=0.1),
    "RMSprop, foreach": lambda p: torch.optim.RMSprop(p, lr=0.1, foreach=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_on_an_optimizer_steps_are_those_with_centred_gradients(
    name: str, library: ModuleType
) -> None:
    ours, theirs = net(), net()
    steps = OPTIMIZERS[name](ours.parameters()), OPTIMIZERS[name](theirs.parameters())
    library.GradientCentralization().attach(steps[0])
    for seed in range(3):
        for model, optimizer in zip((ours, theirs), steps):
            optimizer.zero_grad()
            loss_of(model, seed).backward()
        for parameter in theirs.parameters():
            assert parameter.grad is not None
            parameter.grad = centred(parameter.grad)
        for optimizer in steps:
            optimizer.step()
    for our_parameter, their_parameter in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our_parameter, their_parameter, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.LBFGS])
def test_what_a_closure_computes_is_normalized(
    kind: type[torch.optim.Optimizer], by_name: bool, library: ModuleType
) -> None:
    ours, theirs = net(), net()
    steps = kind(ours.parameters(), lr=0.1), kind(theirs.parameters(), lr=0.1)
    library.GradientCentralization().attach(steps[0])
    library.GradientCentralization().attach(theirs)
    for model, optimizer in zip((ours, theirs), steps):

        def closure(model: nn.Module = model) -> Tensor:
            model.zero_grad()
            loss = loss_of(model)
            loss.backward()
            return loss

        optimizer.step(closure=closure) if by_name else optimizer.step(closure)
    assert not torch.equal(ours[0].weight, net()[0].weight)
    for our_parameter, their_parameter in zip(ours.parameters(), theirs.parameters()):
        torch.testing.assert_close(our_parameter, their_parameter, rtol=1e-12, atol=1e-12)


def test_an_optimizer_with_holes(library: ModuleType) -> None:
    """No gradient, a frozen parameter, sparse and complex ones, and several groups."""
    idle, frozen = nn.Parameter(torch.randn(2, 2)), nn.Parameter(torch.randn(2, 2), False)
    table = nn.Embedding(5, 3, sparse=True)
    turned = nn.Parameter(torch.randn(2, 2, dtype=torch.complex64))
    weight = nn.Parameter(torch.randn(2, 3))
    groups = [{"params": [idle, frozen, *table.parameters()]}, {"params": [turned, weight]}]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    library.GradientCentralization().attach(optimizer)
    before = weight.detach().clone()
    (table(torch.tensor([1, 3])).sum() + turned.abs().sum() + weight.square().sum()).backward()
    sparse = table.weight.grad.to_dense().clone()
    optimizer.step()
    assert idle.grad is None and frozen.grad is None
    assert torch.equal(table.weight.grad.to_dense(), sparse)
    torch.testing.assert_close(weight.detach(), before - centred(2 * before))


def test_sparse_gradients_arrive_as_they_are(library: ModuleType) -> None:
    table = nn.Embedding(5, 3, sparse=True)
    library.GradientCentralization().attach(table)
    table(torch.tensor([1, 3])).sum().backward()
    assert table.weight.grad.is_sparse and table.weight.grad.to_dense().sum() == 6


def test_axes_that_a_group_may_lack_are_wanted(library: ModuleType) -> None:
    """`grad[O, I, *K]` is for convolutions: the gradient of a matrix has nothing to pool over."""
    assert library.ZeroMeanGradient.fewest_dims == 3
    model = net()
    library.ZeroMeanGradient().attach(model)
    loss_of(model).backward()
    unchanged = plain_gradients()
    kernels = unchanged["0.weight"]
    torch.testing.assert_close(model[0].weight.grad, kernels - kernels.mean((2, 3), True))
    for name in ("0.bias", "3.weight", "3.bias"):
        torch.testing.assert_close(model.get_parameter(name).grad, unchanged[name])


def test_nothing_else_can_be_attached_to(library: ModuleType) -> None:
    with pytest.raises(TypeError, match="expected a parameter, a model or an optimizer, got str"):
        library.GradientCentralization().attach("model")
    frozen = nn.Linear(2, 2).requires_grad_(False)
    assert len(library.GradientCentralization().attach(frozen)) == 0


def test_gradients_of_gradients_pass_through(library: ModuleType) -> None:
    x = torch.randn(3, 4, dtype=F64, requires_grad=True)
    library.GradientCentralization().attach(x)
    (first,) = torch.autograd.grad(x.pow(3).sum(), x, create_graph=True)
    torch.testing.assert_close(first, centred(3 * x.detach().square()))
    (second,) = torch.autograd.grad(first.square().sum(), x)
    assert torch.isfinite(second).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_other_types_and_memory(dtype: torch.dtype, library: ModuleType) -> None:
    grad = torch.randn(4, 6, 3, 3).to(dtype).contiguous(memory_format=torch.channels_last)
    actual = library.GradientCentralization()(grad)
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.float(), centred(grad.float()), rtol=1e-2, atol=1e-2)


def test_the_base_is_what_the_runtime_calls_it(library: ModuleType) -> None:
    norm = library.GradientCentralization()
    assert isinstance(norm, GradientNorm) and isinstance(norm, nn.Module)
    assert runtime.GradientNorm is GradientNorm
    assert isinstance(copy.deepcopy(norm), library.GradientCentralization)


def clipped(grad: Tensor, weight: Tensor, clip: float = 0.01, eps: float = 1e-3) -> Tensor:
    """As timm clips what has several dimensions."""
    dims = tuple(range(1, grad.dim()))
    longest = weight.norm(2, dims, keepdim=True).clamp(min=eps) * clip
    length = grad.norm(2, dims, keepdim=True)
    return torch.where(length < longest, grad, grad * (longest / length.clamp(min=1e-6)))


def scaled(grad: Tensor, weight: Tensor, trust: float = 1e-3, decay: float = 0.1) -> Tensor:
    """As LARS is published."""
    size, length = weight.norm(), grad.norm()
    return trust * size / (length + decay * size + 1e-8) * (grad + decay * weight)


WITH_WEIGHTS: dict[str, tuple[dict[str, float], Callable[[Tensor, Tensor], Tensor]]] = {
    "AdaptiveGradientClipping": ({}, clipped),
    "LARSGradient": ({"decay": 0.1}, scaled),
}


@pytest.mark.parametrize("on", ["model", "optimizer", "parameters"])
@pytest.mark.parametrize("name", WITH_WEIGHTS)
def test_a_norm_that_sees_weights(library: ModuleType, name: str, on: str) -> None:
    arguments, by_hand = WITH_WEIGHTS[name]
    norm, model = getattr(library, name)(**arguments), net()
    wanted = plain_gradients()
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    if on == "parameters":
        handles = [norm.attach(p) for p in model.parameters() if p.dim() > 1]
        assert [h.skipped for h in handles] == [()] * 2
    else:
        to = model if on == "model" else torch.optim.SGD(model.parameters(), lr=0.0)
        attached = norm.attach(to, where=lambda p: p.dim() > 1)
        assert attached.skipped == (("0.bias", "3.bias") if on == "model" else ("1", "3"))
    loss_of(model).backward()
    if on == "optimizer":
        to.step()
    for n, grad in gradients(model).items():
        right = by_hand(wanted[n], weights[n]) if grad.dim() > 1 else wanted[n]
        torch.testing.assert_close(grad, right, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("skip", ["bias", "*.bias", ("0.bias", "3.b*")])
def test_parameters_are_skipped_by_name(library: ModuleType, skip: str | tuple[str, ...]) -> None:
    model = net()
    norm = library.LARSGradient()
    assert norm.attach(model, skip=skip).skipped == ("0.bias", "3.bias")
    named = torch.optim.SGD(list(model.named_parameters()), lr=0.1)
    assert norm.attach(named, skip=skip).skipped == ("0.bias", "3.bias")
    with pytest.raises(ValueError, match="does not know the names of its parameters"):
        norm.attach(torch.optim.SGD(model.parameters(), lr=0.1), skip=skip)
    with pytest.raises(ValueError, match="has no name to skip"):
        norm.attach(model[0].weight, skip=skip)


def test_what_has_other_axes_is_skipped_at_once() -> None:
    """Never a `ShapeError` in the middle of `step()`."""
    text = "norm Rows for gradient { input grad[O, I] output grad - mean(grad over I) }"
    model = net()
    optimizer = torch.optim.SGD(list(model.named_parameters()), lr=0.0)
    attached = metanorm.loads(text).Rows().attach(optimizer)
    assert attached.skipped == ("0.weight", "0.bias", "3.bias")
    loss_of(model).backward()
    optimizer.step()
    wanted = plain_gradients()
    wanted["3.weight"] = centred(wanted["3.weight"])
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-12, atol=1e-12)


def test_a_hook_keeps_no_parameter_alive(library: ModuleType) -> None:
    parameter = nn.Parameter(torch.randn(3, 2))
    library.LARSGradient().attach(parameter)
    seen = weakref.ref(parameter)
    del parameter
    gc.collect()
    assert seen() is None
