"""Further methods of a norm, by hand in plain torch."""

from __future__ import annotations

import copy
import pickle
from types import ModuleType

import pytest
import torch
from comparing import assert_close_with_gradients
from torch import Tensor, nn

from metanorm import load, loads, runtime

F64 = torch.float64
SPEC = """
norm Shared(eps = 1e-5) {
  input  x[N, T, C = c]
  param  gain[C] = 1 if affine, offset[C] = 0 if affine
  buffer seen = 0
  update seen = seen + 1
  let    centre = mean(x over T)
  output gain * (x - centre) + offset, centre
  entry  inverse(y[N, H, C], centre[N, C]) {
    output (y - offset) / gain + centre, seen }
  entry  pooled(y[N, H, C], keep: mask[N, H] = true) {
    let    m = moments(gain * y over H where keep)
    output (y - m.mean) / sqrt(m.var + eps) } }
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


@pytest.fixture(scope="module")
def library() -> ModuleType:
    return load("specs/rev_in.norm")


def data(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape, dtype=F64, requires_grad=True)


def randomized(norm: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in norm.double().parameters():
            parameter.uniform_(0.5, 1.5)
    return norm


@pytest.mark.parametrize("route", ["torch", "native"])
@pytest.mark.parametrize("affine", [True, False])
def test_an_entry_shares_parameters(route: str, affine: bool, norms: ModuleType) -> None:
    norm = randomized(norms.Shared(3, affine=affine))
    x, y = data(2, 5, 3), data(2, 4, 3)
    gain, offset = (norm.gain, norm.offset) if affine else (torch.ones(3, dtype=F64), 0)
    with runtime.use(route):
        _, centre = norm(x)
        back, seen = norm.inverse(y, centre.detach())
        pooled = norm.pooled(y)
    assert int(seen) == int(norm.seen) == 1
    assert_close_with_gradients(
        back, (y - offset) / gain + x.mean(1).detach()[:, None], y, *norm.parameters()
    )
    scaled = gain * y
    deviation = (scaled.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
    assert_close_with_gradients(pooled, (y - scaled.mean(1, keepdim=True)) / deviation, y)


def test_inputs_of_an_entry_have_defaults(norms: ModuleType) -> None:
    norm, y = randomized(norms.Shared(3)), data(2, 4, 3)
    keep = torch.ones(2, 4, dtype=torch.bool)
    torch.testing.assert_close(norm.pooled(y), norm.pooled(y, keep))
    keep[:, -1] = False
    torch.testing.assert_close(norm.pooled(y, keep)[:, :3], norm.pooled(y[:, :3]))


def test_an_entry_refuses_what_it_cannot_take(norms: ModuleType) -> None:
    norm = norms.Shared(3)
    with pytest.raises(runtime.ShapeError, match=r"^Shared.inverse: centre has shape \[2, 4\]"):
        norm.inverse(torch.randn(2, 5, 3), torch.randn(2, 4))
    with pytest.raises(TypeError, match=r"^Shared.inverse: centre must be a tensor, got None"):
        norm.inverse(torch.randn(2, 5, 3), None)
    with pytest.raises(runtime.ShapeError, match=r"^Shared.pooled: y has shape \[2, 3\]"):
        norm.pooled(torch.randn(2, 3))


def test_results_and_modules_can_be_copied_and_pickled(library: ModuleType) -> None:
    norm = library.RevIN(3)
    assert "denormalize" in copy.deepcopy(norm).__class__.__dict__
    assert isinstance(pickle.loads(pickle.dumps(norm.state_dict())), dict)


@pytest.mark.parametrize("affine", [True, False])
def test_rev_in_is_that_of_its_authors(affine: bool, library: ModuleType) -> None:
    """ts-kim/RevIN, written anew: statistics and back, which its module keeps between the calls."""
    norm = randomized(library.RevIN(3, affine=affine))
    x, forecast = data(2, 6, 3), data(2, 4, 3)
    mean = x.mean(1, keepdim=True).detach()
    std = (x.var(1, correction=0, keepdim=True) + 1e-5).sqrt().detach()
    normed, back = (x - mean) / std, forecast
    if affine:
        normed = normed * norm.weight + norm.bias
        back = (back - norm.bias) / (norm.weight + 1e-5**2)
    y = norm(x)
    assert_close_with_gradients(y.y, normed, x, *norm.parameters())
    actual = norm.denormalize(forecast, y.mean.detach(), y.std.detach())
    assert_close_with_gradients(actual, back * std + mean, forecast, *norm.parameters())


def test_rev_in_gives_back_what_it_got(library: ModuleType) -> None:
    norm, x = randomized(library.RevIN(4)), data(3, 7, 4)
    y = norm(x)
    torch.testing.assert_close(norm.denormalize(*y), x)


def test_a_graph_has_entries(library: ModuleType) -> None:
    norm, x = randomized(library.RevIN(4)), data(3, 7, 4)

    def round_trip(x: Tensor) -> Tensor:
        return norm.denormalize(*norm(x))

    compiled = torch.compile(round_trip, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), round_trip(x))


@pytest.mark.parametrize("target", ["torch", "native"])
def test_an_entry_without_an_axis_of_the_constructor(target: str) -> None:
    """Kernels of the entry do not ask for the length of an axis that it has nothing on."""
    spec = """norm A { input x[N, T = steps, C = c]
      param level[T] = 1, gain[C] = 1
      output y = gain * x - sum(level * x over T)
      entry  back(y[N, H, C]) { output y / gain } }"""
    norm, y = randomized(loads(spec).A(4, 3)), data(2, 5, 3)
    with runtime.use(target):
        assert_close_with_gradients(norm.back(y), y / norm.gain, y, norm.gain)
