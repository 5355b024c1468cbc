"""Norms that equal a layer of torch derive from its class, and serve what it serves."""

from __future__ import annotations

import copy
import io
import pickle
import sys
from types import ModuleType

import pytest
import torch
from conftest import PROGRAMS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

import metanorm
from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.passes.pipeline import optimize
from metanorm.source import Source
from metanorm.torch_layers import matching_layer

BASES = (_BatchNorm, _InstanceNorm, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
OF_LIBRARY = {
    "BatchNorm": _BatchNorm,
    "InstanceNorm": _InstanceNorm,
    "GroupNorm": nn.GroupNorm,
    "LayerNorm": nn.LayerNorm,
    "LayerNormSimple": nn.LayerNorm,
    "NodeNorm": nn.LayerNorm,
    "RMSNorm": nn.RMSNorm,
}

# Layers of torch in other words: other names, lengths and spellings, other ways to cut an axis.
SPELLINGS = """
norm ImagesOnly(epsilon = 1e-3, momentum = 0.2) {
  input  x[N, C = channels, H, W]
  let    m = mean(x over N, H, W track momentum)
  let    v = var(x over N, H, W track momentum)
  output affine((x - m) / sqrt(v + epsilon) per C)
}
norm Rows(eps = 1e-5, rate = 0.1) {
  input  x[N, C = num_features]
  let    m = mean(x over N track rate)
  let    v = var(x over N track rate)
  param  weight[C] = 1
  param  bias[C] = 0
  output weight * (x - m) / sqrt(eps + v) + bias
}
norm Untracked(eps = 1e-5) {
  input  x[N, C = num_features, *S]
  reduce N, *S
  affine weight[C]
}
norm ThreeChannels(eps = 1e-5, momentum = 0.1) {
  input  x[N, C = 3, *S]
  reduce *S
  track  momentum
  affine C
}
norm Plain(eps = 1e-5) {
  input  x[N, C = width, L]
  reduce L
}
norm Cut(groups: int, e = 1e-5) {
  input  x[N, C = channels, *S]
  axis   C = (G = groups, D)
  param  weight[C] = 1
  param  bias[C] = 0
  output bias + (x - mean(x over D, *S)) / sqrt(e + var(x over D, *S)) * weight
}
norm Tokens(eps = 1e-6) {
  input  x[N, T, D = dim]
  reduce D
  affine D
}
norm Images(eps = 1e-6) {
  input  x[N, C = 3, H = height, W = width]
  reduce C, H, W
  affine weight[C, H, W]
}
norm Shape(variance_epsilon = 1e-6) {
  input  x[*B, *D = shape]
  param  weight[*D] = 1
  output weight * (x / sqrt(mean(x^2 over *D) + variance_epsilon))
}
"""
LIKE = {
    "ImagesOnly": ((3,), nn.BatchNorm2d(3, 1e-3, 0.2), (4, 3, 2, 5)),
    "Rows": ((3,), nn.BatchNorm1d(3), (4, 3)),
    "Untracked": (
        (3,),
        nn.BatchNorm1d(3, track_running_stats=False, bias=False),
        (4, 3, 5),
    ),
    "ThreeChannels": (
        (),
        nn.InstanceNorm2d(3, affine=True, track_running_stats=True),
        (4, 3, 2, 5),
    ),
    "Plain": ((3,), nn.InstanceNorm1d(3), (4, 3, 5)),
    "Cut": ((2, 6), nn.GroupNorm(2, 6), (4, 6, 5)),
    "Tokens": ((6,), nn.LayerNorm(6, 1e-6), (4, 5, 6)),
    "Images": ((2, 4), nn.LayerNorm((3, 2, 4), 1e-6, bias=False), (5, 3, 2, 4)),
    "Shape": (((2, 3),), nn.RMSNorm((2, 3), 1e-6), (4, 2, 3)),
}

# What is almost a layer of torch, and what differs.
OTHERS = """
norm ChannelsLast(eps = 1e-5, momentum = 0.1) {  # channels are the last axis
  input  x[N, *S, C = num_features]
  reduce N, *S
  track  momentum
  affine C
}
norm FixedMomentum(eps = 1e-5) {  # a tool cannot set the momentum
  input  x[N, C = num_features, *S]
  reduce N, *S
  track  0.1
  affine C
}
norm FixedEps(momentum = 0.1) {  # nor eps
  input  x[N, C = num_features, *S]
  let    n = (x - mean(x over N, *S track momentum)) / sqrt(var(x over N, *S track momentum) + 1e-5)
  output n
}
norm EpsOutside(eps = 1e-5) {  # the divisor
  input  x[*B, *D = normalized_shape]
  output (x - mean(x over *D)) / (sqrt(var(x over *D)) + eps)
}
norm Sample(eps = 1e-5) {  # the variance of a sample
  input  x[*B, *D = normalized_shape]
  output (x - mean(x over *D)) / sqrt(var(x over *D, ddof = 1) + eps)
}
norm FromZero(eps = 1e-5) {  # the first weight
  input  x[*B, *D = normalized_shape]
  param  weight[*D] = 0
  param  bias[*D] = 0
  output (x - mean(x over *D)) / sqrt(var(x over *D) + eps) * weight + bias
}
norm OnePlus(eps = 1e-5) {  # the weight is what is added to 1
  input  x[*B, *D = normalized_shape]
  param  weight[*D] = 0
  output x / sqrt(mean(x^2 over *D) + eps) * (1 + weight)
}
norm Interleaved(num_groups: int, eps = 1e-5) {  # the groups
  input  x[N, C = num_channels, *S]
  reduce C: interleave(num_groups), *S
  affine C
}
norm FourGroups(eps = 1e-5) {  # a tool reads their number
  input  x[N, C = num_channels, *S]
  reduce C: blocks(4), *S
  affine C
}
norm WeightOfRows(eps = 1e-5) {  # the axis of the weight
  input  x[N, C = channels, L = normalized_shape]
  reduce L
  affine C
}
norm SwappedStatistics(eps = 1e-5, momentum = 0.1) {  # the mean in evaluation
  input  x[N, C = num_features, *S]
  let    m = mean(x over N, *S track momentum)
  let    v = var(x over N, *S track momentum)
  output mode(train: (x - m) / sqrt(v + eps), eval: (x - v) / sqrt(m + eps))
}
norm TwoMomenta(eps = 1e-5, momentum = 0.1, slow = 0.01) {  # that of the variance
  input  x[N, C = num_features, *S]
  let    m = mean(x over N, *S track momentum)
  let    v = var(x over N, *S track slow)
  output (x - m) / sqrt(v + eps)
}
norm Leading(eps = 1e-5) {  # what is pooled
  input  x[*D = normalized_shape, B]
  reduce *D
}
norm Gated(eps = 1e-5) {  # an input more
  input  x[*B, *D = normalized_shape], gate[*B, *D]
  reduce *D
  output affine(normalize(x over *D) * gate per *D)
}
norm Bounded(eps = 1e-5) {  # the weight stays in an interval
  input  x[*B, *D = normalized_shape]
  param  weight[*D] = 1 in [0, 1]
  param  bias[*D] = 0
  output (x - mean(x over *D)) / sqrt(var(x over *D) + eps) * weight + bias
}
norm LengthAsShape(eps = 1e-5) {  # its `normalized_shape` is a length
  input  x[*B, D = normalized_shape]
  reduce D
  affine D
}
norm Gain(eps = 1e-5) {  # the name of the weight
  input  x[*B, *D = normalized_shape]
  param  gain[*D] = 1
  output x / sqrt(mean(x^2 over *D) + eps) * gain
}
norm EpsOrNone(eps = None) {  # eps may be None
  input  x[*B, *D = normalized_shape]
  reduce *D
  affine *D
}
"""


@pytest.fixture(scope="module")
def spelled() -> ModuleType:
    return metanorm.loads(SPELLINGS)


def derived(cls: type) -> list[type]:
    return [base for base in BASES if issubclass(cls, base)]


@pytest.mark.parametrize("name", PROGRAMS)
def test_norms_of_the_library_derive_from_the_layers_that_they_equal(
    name: str, library: ModuleType
) -> None:
    expected = [OF_LIBRARY[name]] if name in OF_LIBRARY else []
    assert derived(getattr(library, name)) == expected


def test_what_is_almost_a_layer_of_torch_is_none() -> None:
    module = metanorm.loads(OTHERS)
    names = [name for name in module.__all__ if isinstance(getattr(module, name), type)]
    assert len(names) == OTHERS.count("norm ") > 15
    assert [name for name in names if derived(getattr(module, name))] == []


def test_what_cannot_be_served_is_said() -> None:
    programs = {p.name: p for p in programs_of(OTHERS)}
    reasons = {
        "LengthAsShape": "its argument `normalized_shape` is not what torch calls by that name",
        "Gain": "its `gain` is what torch calls `weight`",
        "EpsOrNone": "nothing of it can stand for `eps`",
    }
    for name, program in programs.items():
        layer = matching_layer(program, optimize(program))
        assert (layer.why_not if layer else None) == reasons.get(name), name


def programs_of(text: str) -> list[Program]:
    source = Source.of("layers.norm", text)
    checked = check({source.name: source}, [source.name])
    assert checked.ok
    return [norm.program for norm in checked.norms[source.name]]


def pair(name: str, spelled: ModuleType) -> tuple[nn.Module, nn.Module, Tensor]:
    """A norm, the layer that it is with the same numbers in it, and an input for both."""
    arguments, layer, shape = LIKE[name]
    theirs = copy.deepcopy(layer)
    ours: nn.Module = getattr(spelled, name)(*arguments)
    with torch.no_grad():
        for tensor in (*theirs.parameters(), *theirs.buffers()):
            if tensor.is_floating_point():
                tensor.uniform_(0.5, 1.5)
    assert ours.load_state_dict(theirs.state_dict()) == nn.Module().load_state_dict({})
    return ours, theirs, torch.randn(shape) * 3 + 1


@pytest.mark.parametrize("name", LIKE)
def test_what_derives_computes_what_the_layer_does(name: str, spelled: ModuleType) -> None:
    ours, theirs, x = pair(name, spelled)
    assert isinstance(theirs, derived(type(ours))[0])
    for training in (True, True, False):
        left, right = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, z = ours.train(training)(left), theirs.train(training)(right)
        torch.testing.assert_close(y, z)
        weights = torch.randn_like(y)
        (y * weights).sum().backward()
        (z * weights).sum().backward()
        torch.testing.assert_close(left.grad, right.grad, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for a, b in zip(ours.buffers(), theirs.buffers(), strict=True):
        if a.is_floating_point():
            torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", LIKE)
def test_tools_read_what_they_read_of_the_layer(name: str, spelled: ModuleType) -> None:
    ours, theirs, _ = pair(name, spelled)
    unused = {"momentum"} if getattr(theirs, "running_mean", 0) is None else set()
    for attribute in {*theirs.__constants__, *vars(theirs)} - unused:
        if not attribute.startswith("_"):
            assert getattr(ours, attribute) == getattr(theirs, attribute), attribute
    for kind in ("_parameters", "_buffers"):
        assert list(getattr(ours, kind)) == list(getattr(theirs, kind))
    assert ours._version == theirs._version
    assert ours.state_dict()._metadata == theirs.state_dict()._metadata


@pytest.mark.parametrize("name", LIKE)
def test_modules_can_be_copied_and_saved(name: str, spelled: ModuleType) -> None:
    ours, _, x = pair(name, spelled)
    expected = ours.eval()(x)
    sys.modules[spelled.__name__] = spelled
    try:
        saved = io.BytesIO()
        torch.save(ours, saved)
        saved.seek(0)
        again = torch.load(saved, weights_only=False)
        unpickled = pickle.loads(pickle.dumps(ours))
    finally:
        del sys.modules[spelled.__name__]
    for other in (copy.deepcopy(ours), copy.copy(ours), again, unpickled):
        torch.testing.assert_close(other(x), expected, rtol=0, atol=0)
        assert repr(other) == repr(ours)


def test_an_attribute_that_a_tool_sets_counts(spelled: ModuleType) -> None:
    ours, theirs, x = pair("ImagesOnly", spelled)
    for layer in (ours, theirs):
        layer.eps, layer.momentum = 0.5, 0.25
    torch.testing.assert_close(ours(x), theirs(x))
    torch.testing.assert_close(ours.running_var, theirs.running_var)
    assert (ours.epsilon, ours.eps) == (0.5, 0.5)
    assert "epsilon=0.5" in repr(ours)


def drop_ins(library: ModuleType) -> list[tuple[nn.Module, nn.Module]]:
    """Norms of the library and the layers that they stand in for, as they are constructed."""
    return [
        (library.BatchNorm(6), nn.BatchNorm2d(6)),
        (library.BatchNorm(6, affine=False), nn.BatchNorm2d(6, affine=False)),
        (library.BatchNorm(6, bias=False), nn.BatchNorm2d(6, bias=False)),
        (
            library.BatchNorm(6, track_running_stats=False),
            nn.BatchNorm2d(6, track_running_stats=False),
        ),
        (library.InstanceNorm(6), nn.InstanceNorm2d(6)),
        (library.InstanceNorm(6, affine=True), nn.InstanceNorm2d(6, affine=True)),
        (library.GroupNorm(2, 6), nn.GroupNorm(2, 6)),
        (library.GroupNorm(3, 6, affine=False), nn.GroupNorm(3, 6, affine=False)),
        (library.LayerNorm((3, 2)), nn.LayerNorm((3, 2))),
        (library.LayerNorm(3, bias=False), nn.LayerNorm(3, bias=False)),
        (library.LayerNorm(3, elementwise_affine=False), nn.LayerNorm(3, elementwise_affine=False)),
        (library.RMSNorm(3), nn.RMSNorm(3)),
        (library.RMSNorm(3, 1e-6, False), nn.RMSNorm(3, 1e-6, False)),
    ]


def test_drop_ins_look_as_the_layers_do(library: ModuleType) -> None:
    for ours, theirs in drop_ins(library):
        assert ours.extra_repr() == theirs.extra_repr()
        assert vars(ours).keys() == vars(theirs).keys()
        with torch.no_grad():
            for tensor in (*ours.parameters(), *ours.buffers()):
                tensor.fill_(7)
        ours.reset_parameters()
        for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_checkpoints_from_before_batches_were_counted(library: ModuleType) -> None:
    ours = library.BatchNorm(3)
    old = nn.BatchNorm2d(3).state_dict()
    del old["num_batches_tracked"]
    old._metadata[""]["version"] = 1
    ours.load_state_dict(old)
    assert ours.num_batches_tracked.item() == 0
    old._metadata[""]["version"] = 2
    with pytest.raises(RuntimeError, match="num_batches_tracked"):
        ours.load_state_dict(old)


def test_old_checkpoints_of_instance_norms(library: ModuleType) -> None:
    old = nn.InstanceNorm2d(3, track_running_stats=True).state_dict()
    del old._metadata
    with pytest.raises(RuntimeError, match="does not track running stats by default"):
        library.InstanceNorm(3).load_state_dict(old)
