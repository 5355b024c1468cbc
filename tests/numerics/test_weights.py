"""Norms for weights on layers: beside torch's own weight norm, formulas of papers, and alone."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import (
    is_parametrized,
    register_parametrization,
    remove_parametrizations,
)

import metanorm
from metanorm import runtime

Make = Callable[[], nn.Module]
LAYERS: dict[str, tuple[Make, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(5, 4), (3, 5)),
    "conv1d": (lambda: nn.Conv1d(2, 4, 3), (3, 2, 7)),
    "conv2d": (lambda: nn.Conv2d(4, 6, 3, groups=2), (2, 4, 5, 5)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2), (2, 2, 3, 3, 3)),
}
every_layer = pytest.mark.parametrize("kind", LAYERS)


def layer_and_input(kind: str) -> tuple[nn.Module, Tensor]:
    make, shape = LAYERS[kind]
    return make().double(), torch.randn(shape, dtype=torch.float64)


def on(layer: nn.Module, norm: nn.Module) -> nn.Module:
    return register_parametrization(layer, "weight", norm)


def learned(layer: nn.Module) -> Tensor:
    """The weight below the norm."""
    original: Tensor = layer.parametrizations.weight.original
    return original


# ---- weight norm and torch's own


@every_layer
def test_weight_norm_learns_what_that_of_torch_learns(kind: str, library: ModuleType) -> None:
    layer, x = layer_and_input(kind)
    theirs = parametrizations.weight_norm(copy.deepcopy(layer))
    ours = on(layer, library.WeightNorm())
    models = [theirs, ours]
    optimizers = [torch.optim.SGD(m.parameters(), lr=0.1, momentum=0.9) for m in models]
    for _ in range(3):
        losses = [model(x).square().sum() + model(x).sin().sum() for model in models]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-12, atol=1e-12)
        for loss, optimizer in zip(losses, optimizers):
            optimizer.zero_grad()
            loss.backward()
        g, v = theirs.parametrizations.weight.original0, theirs.parametrizations.weight.original1
        ours_on_weight = ours.parametrizations.weight
        torch.testing.assert_close(ours_on_weight[0].g.grad, g.grad.flatten())
        torch.testing.assert_close(ours_on_weight.original.grad, v.grad)
        for optimizer in optimizers:
            optimizer.step()
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=1e-12, atol=1e-12)


@every_layer
def test_a_layer_computes_the_same_right_after_weight_norm(kind: str, library: ModuleType) -> None:
    layer, x = layer_and_input(kind)
    before = layer(x)
    torch.testing.assert_close(on(layer, library.WeightNorm())(x), before, rtol=1e-12, atol=1e-12)


def test_rows_of_zeros_are_zero_and_not_nan(library: ModuleType) -> None:
    layer = nn.Linear(5, 4)
    nn.init.zeros_(layer.weight)
    on(layer, library.WeightNorm())
    layer(torch.randn(3, 5)).sum().backward()
    assert layer.weight.abs().max() == 0
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


# ---- what torch does with parametrizations


def test_names_and_types_of_the_parameters(library: ModuleType) -> None:
    layer = on(nn.Linear(5, 4, bias=False).double(), library.WeightNorm())
    shapes = {name: tuple(p.shape) for name, p in layer.named_parameters()}
    assert shapes == {
        "parametrizations.weight.original": (4, 5),
        "parametrizations.weight.0.g": (4,),
    }
    assert all(p.dtype == torch.float64 for p in layer.parameters())
    assert all(p.dtype == torch.bfloat16 for p in layer.bfloat16().parameters())


@pytest.mark.parametrize("name", ["WeightNorm", "ScaledWeightStandardization"])
def test_state_is_saved_and_loaded(name: str, library: ModuleType) -> None:
    first, second = (on(nn.Conv2d(3, 4, 2), getattr(library, name)()) for _ in range(2))
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.add_(torch.rand_like(parameter))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second.load_state_dict(torch.load(file), strict=True)
    x = torch.randn(2, 3, 4, 4)
    torch.testing.assert_close(second(x), first(x), rtol=0, atol=0)


@pytest.mark.parametrize("keep", [True, False])
def test_norms_are_taken_off_again(keep: bool, library: ModuleType) -> None:
    layer = nn.Linear(5, 4)
    raw = layer.weight.detach().clone()
    on(layer, library.WeightStandardization())
    shown = layer.weight.detach().clone()
    remove_parametrizations(layer, "weight", leave_parametrized=keep)
    assert not is_parametrized(layer) and isinstance(layer.weight, nn.Parameter)
    assert torch.equal(layer.weight, shown if keep else raw)


def test_copies_of_a_layer_are_layers_of_their_own(library: ModuleType) -> None:
    layer = on(nn.Linear(5, 4), library.WeightNorm())
    other = copy.deepcopy(layer)
    with torch.no_grad():
        other.parametrizations.weight[0].g.zero_()
    assert other.weight.abs().max() == 0 and layer.weight.abs().min() > 0


def test_pickles_are_as_far_as_those_of_torch(library: ModuleType) -> None:
    """A norm by itself goes through; torch refuses every layer with a parametrization."""
    norm = library.WeightNorm(eps=1e-3)
    norm.right_inverse(torch.randn(4, 5))
    other = pickle.loads(pickle.dumps(norm))
    assert other.eps == 1e-3 and torch.equal(other.g, norm.g)
    waiting = pickle.loads(pickle.dumps(copy.deepcopy(library.WeightNorm())))
    assert waiting.g.numel() == 0 and list(waiting.state_dict()) == ["g"]
    with pytest.raises(RuntimeError, match="state_dict"):
        pickle.dumps(on(nn.Linear(5, 4), library.WeightNorm()))


def test_an_assigned_weight_is_begun_with_anew(library: ModuleType) -> None:
    layer = on(nn.Linear(5, 4), library.WeightNorm())
    g = layer.parametrizations.weight[0].g
    weight = torch.randn(4, 5)
    layer.weight = weight
    torch.testing.assert_close(layer.weight, weight)
    assert layer.parametrizations.weight[0].g is g  # the optimizer goes on with it
    torch.testing.assert_close(g, weight.norm(dim=1))


def test_what_is_frozen_stays_frozen(library: ModuleType) -> None:
    layer = nn.Linear(5, 4)
    layer.weight.requires_grad_(False)
    on(layer, library.WeightNorm())
    assert not layer.parametrizations.weight[0].g.requires_grad
    assert library.WeightNorm().g.requires_grad


def test_one_norm_on_another(library: ModuleType) -> None:
    layer = nn.Linear(5, 4).double()
    raw = layer.weight.detach().clone()
    on(on(layer, library.WeightCentralization()), library.WeightNorm())
    centred = raw - raw.mean(1, keepdim=True)
    torch.testing.assert_close(layer.weight, centred)
    torch.testing.assert_close(layer.parametrizations.weight[1].g, centred.norm(dim=1))


def test_a_norm_of_a_bare_tensor_begins_with_it(library: ModuleType) -> None:
    norm, weight = library.WeightNorm(), torch.randn(4, 2, 3)
    torch.testing.assert_close(norm(weight), weight)
    torch.testing.assert_close(norm(2 * weight), weight)
    with pytest.raises(runtime.ShapeError, match="O = 4"):
        norm(torch.randn(5, 2, 3))


def test_a_weight_that_does_not_fit_leaves_the_layer_as_it_is() -> None:
    norms = metanorm.loads(
        """norm Planes for weight {
             input  w[O, I, H, W]
             param  g[I] = init mean(w over O, H, W)
             output g * w
           }"""
    )
    layer = nn.Linear(5, 4)
    with pytest.raises(runtime.ShapeError, match=r"w has shape \[4, 5\], expected \[O, I, H, W\]"):
        on(layer, norms.Planes())
    assert not is_parametrized(layer) and isinstance(layer.weight, nn.Parameter)


def test_outputs_along_the_second_axis() -> None:
    """Transposed convolutions; torch's weight norm has `dim` for them."""
    norms = metanorm.loads(
        """norm Transposed for weight {
             input  v[I, O, *K]
             param  g[O] = init l2(v over I, *K)
             output g * v / max(l2(v over I, *K), 1e-12)
           }"""
    )
    layer = nn.ConvTranspose2d(3, 5, 2).double()
    theirs = parametrizations.weight_norm(copy.deepcopy(layer), dim=1)
    on(layer, norms.Transposed())
    with torch.no_grad():
        layer.parametrizations.weight[0].g.mul_(2)
        theirs.parametrizations.weight.original0.mul_(2)
    torch.testing.assert_close(layer.weight, theirs.weight)
    g = theirs.parametrizations.weight.original0
    torch.testing.assert_close(layer.parametrizations.weight[0].g, g.flatten())


# ---- formulas of papers


@every_layer
def test_standardized_weights_are_those_of_timm(kind: str, library: ModuleType) -> None:
    """Its layers have the weight go through `batch_norm`, as one sample with a channel a row."""
    layer, _ = layer_and_input(kind)
    rows = layer.weight.detach().flatten(1)
    wanted = F.batch_norm(rows[None], None, None, training=True, eps=1e-6)[0]
    on(layer, library.WeightStandardization(eps=1e-6))
    torch.testing.assert_close(layer.weight.flatten(1), wanted)

    layer, _ = layer_and_input(kind)
    rows = layer.weight.detach().flatten(1)
    gain = torch.rand(len(rows), dtype=torch.float64)
    scale = gain * 1.7 * rows.shape[1] ** -0.5
    wanted = F.batch_norm(rows[None], None, None, weight=scale, training=True, eps=1e-6)[0]
    on(layer, library.ScaledWeightStandardization(gamma=1.7))
    with torch.no_grad():
        layer.parametrizations.weight[0].gain.copy_(gain)
    torch.testing.assert_close(layer.weight.flatten(1), wanted)


@pytest.mark.parametrize("name", ["WeightStandardization", "WeightNorm"])
def test_the_size_of_a_weight_does_not_matter(name: str, library: ModuleType) -> None:
    norm, weight = getattr(library, name)(), torch.randn(4, 3, 3, dtype=torch.float64)
    first = norm(weight)
    torch.testing.assert_close(norm(10 * weight), first, rtol=1e-4, atol=1e-4)


def test_centralized_weights_have_centred_gradients(library: ModuleType) -> None:
    layer, x = layer_and_input("conv2d")
    on(layer, library.WeightCentralization())
    layer(x).sin().sum().backward()
    means = learned(layer).grad.flatten(1).mean(1)
    torch.testing.assert_close(means, torch.zeros_like(means), rtol=0, atol=1e-12)


# ---- a whole model


def model() -> nn.Sequential:
    shapes = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 2)
    return nn.Sequential(*shapes, nn.Sequential(nn.Linear(2, 2)))


def test_every_layer_gets_a_norm_of_its_own(library: ModuleType) -> None:
    net = model()
    assert runtime.on_weights(net, library.WeightNorm) == ["0", "3", "4.0"]
    assert [tuple(net[i].parametrizations.weight[0].g.shape) for i in (0, 3)] == [(4,), (2,)]
    assert not is_parametrized(net[1])
    net(torch.randn(2, 3, 4, 4)).sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    net = model()
    norm = lambda: library.WeightStandardization(eps=0.1)  # noqa: E731
    assert runtime.on_weights(net, norm, nn.Conv2d) == ["0"]
    assert net[0].parametrizations.weight[0].eps == 0.1


def test_norms_are_not_put_on_twice(library: ModuleType) -> None:
    net = model()
    runtime.on_weights(net, library.WeightNorm, nn.Linear)
    with pytest.raises(ValueError, match="3 has a parametrization"):
        runtime.on_weights(net, library.WeightNorm)
    assert not is_parametrized(net[0])


def test_bounded_parameters_of_weights_come_back() -> None:
    norms = metanorm.loads(
        """norm Bounded for weight {
             input  w[O, *I]
             param  share[O] = init mean(w over *I) in [0, 1]
             output share * w
           }"""
    )
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[-1.0, -1.0, -1.0], [0.5, 0.5, 0.5]]))
    runtime.on_weights(net, norms.Bounded)
    share = net[0].parametrizations.weight[0].share
    assert share.tolist() == [0.0, 0.5]
    with torch.no_grad():
        share.copy_(torch.tensor([2.0, -3.0]))
    runtime.project_(net)
    assert share.tolist() == [1.0, 0.0]
    runtime.project_(norms.Bounded())  # one that waits for a weight


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_in_half_precision(dtype: torch.dtype, library: ModuleType) -> None:
    weight = torch.randn(6, 8).to(dtype).T  # not contiguous
    for name in ("WeightNorm", "WeightStandardization", "WeightCentralization"):
        actual = getattr(library, name)()(weight)
        wanted = getattr(library, name)()(weight.double())
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.double(), wanted, rtol=1e-2, atol=1e-2)
