"""What parameters and buffers begin with: random numbers, and values of the weight."""

from __future__ import annotations

import copy
import math
from types import ModuleType

import pytest
import torch
import torch_geometric.nn as pyg
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import metanorm
from metanorm.ir.ops import DRAWS

SPEC = """
norm Drawn(spread = 0.5) {{
  input  x[N, C]
  param  w[K = 40, C] = {draw}, inside[C] = normal(0, 9) in [-1, 2]
  buffer b[C] = {draw}
  update b = b + 1
  output x * sum(w over K) + inside + b
}}
"""
# Of 2000 numbers: their mean, deviation and largest distance from the mean, roughly.
MOMENTS = {"normal(3, spread)": (3.0, 0.5, 1.8), "uniform(1, 2 * spread + 2)": (2.0, 0.577, 1.0)}


def drawn(draw: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    norm: nn.Module = metanorm.loads(SPEC.format(draw=draw)).Drawn(50)
    return norm


@pytest.mark.parametrize("draw", MOMENTS)
def test_numbers_are_those_of_the_distribution(draw: str) -> None:
    mean, deviation, furthest = MOMENTS[draw]
    w = drawn(draw, 0).w.detach()
    assert float(w.mean()) == pytest.approx(mean, abs=0.05)
    assert float(w.std()) == pytest.approx(deviation, rel=0.05)
    assert float((w - mean).abs().max()) == pytest.approx(furthest, rel=0.2)


@pytest.mark.parametrize("draw", MOMENTS)
def test_a_seed_repeats_them(draw: str) -> None:
    first, again, other = (dict(drawn(draw, seed).state_dict()) for seed in (0, 0, 1))
    for name, value in first.items():
        assert torch.equal(value, again[name])
        assert not torch.equal(value, other[name])
    assert first["inside"].min() == -1
    assert first["inside"].max() == 2


def test_they_are_drawn_anew_by_reset_parameters() -> None:
    norm = drawn("normal(0, 1)", 0)
    before = copy.deepcopy(norm.state_dict())
    norm.reset_parameters()  # type: ignore[operator]
    assert all(not torch.equal(norm.state_dict()[name], value) for name, value in before.items())
    torch.manual_seed(0)
    norm.reset_parameters()  # type: ignore[operator]
    assert all(torch.equal(norm.state_dict()[name], value) for name, value in before.items())


def test_a_call_draws_nothing() -> None:
    norm, x = drawn("normal(0, 1)", 0).eval(), torch.randn(4, 50)
    state = torch.get_rng_state()
    assert torch.equal(norm(x), norm(x))
    assert torch.equal(torch.get_rng_state(), state)


def test_every_distribution_is_here() -> None:
    numbers = [name for name, draw in DRAWS.items() if not (draw.boolean or draw.whole)]
    assert sorted(draw.partition("(")[0] for draw in MOMENTS) == sorted(numbers)


# ---- beside layers that draw the same numbers


def test_the_soft_groups_of_diff_group_norm_begin_as_those_of_pyg(library: ModuleType) -> None:
    theirs = pyg.DiffGroupNorm(6, 3)
    torch.manual_seed(0)
    theirs.lin.reset_parameters()
    torch.manual_seed(0)
    torch.testing.assert_close(library.DiffGroupNorm(6, 3).lin, theirs.lin.weight)


@pytest.mark.parametrize("name", ["ILMGroupNorm", "ILMInstanceNorm", "ILMLayerNorm"])
def test_the_network_of_ilm_norm_begins_as_linear_layers(name: str, library: ModuleType) -> None:
    torch.manual_seed(0)
    norm = getattr(library, name)(64, embed=3)
    torch.manual_seed(0)
    for parameter, shape in ((norm.encode, (4, 3)), (norm.to_gain, (3, 4)), (norm.to_bias, (3, 4))):
        torch.testing.assert_close(parameter, nn.Linear(*shape, bias=False).weight)


def test_the_gates_of_mode_norm_begin_apart(library: ModuleType) -> None:
    gate = library.ModeNorm(100, 3).gate_weight.detach()
    torch.testing.assert_close(gate.mean(1), torch.full((3,), 1 / 3), rtol=0, atol=5e-3)
    assert float(gate.std()) == pytest.approx(0.01, rel=0.2)


# ---- buffers that begin with values of the weight

INITIALIZED_SPEC = """
norm Initialized(size = 2.0) for weight {
  input  w[O, *I]
  buffer length[O] = init size * l2(w over *I), noise[O] = normal(0, 1)
  buffer share[O, *I] = init w / length + 0 * normal(0, 1 per O)
  param  g = 1
  output g * w + 0 * (share + noise)
}
"""


def test_buffers_begin_with_the_weight_and_with_one_another() -> None:
    layer = nn.Conv1d(3, 4, 5)
    before = layer.weight.detach().clone()
    norm = metanorm.loads(INITIALIZED_SPEC).Initialized()
    register_parametrization(layer, "weight", norm)
    lengths = 2 * before.flatten(1).norm(dim=1)
    torch.testing.assert_close(norm.length, lengths)
    torch.testing.assert_close(norm.share, before / lengths[:, None, None])
    assert not any(b.requires_grad or b.grad_fn for b in norm.buffers())
    loaded = metanorm.loads(INITIALIZED_SPEC).Initialized()
    register_parametrization(nn.Conv1d(3, 4, 5), "weight", loaded)
    loaded.load_state_dict(norm.state_dict())
    assert torch.equal(loaded.share, norm.share)


def test_the_first_call_begins_where_torch_did_not_ask() -> None:
    norm = metanorm.loads(INITIALIZED_SPEC).Initialized()
    weight = nn.Parameter(torch.randn(4, 3))
    norm(weight).sum().backward()
    assert not any(b.requires_grad or b.grad_fn for b in norm.buffers())
    assert math.isclose(float(norm.length[0]), 2 * float(weight[0].detach().norm()), rel_tol=1e-5)


def test_a_weight_of_another_shape_is_refused() -> None:
    norm = metanorm.loads(INITIALIZED_SPEC).Initialized()
    norm.right_inverse(torch.randn(4, 3))
    with pytest.raises(ValueError, match="w has shape"):
        norm(torch.randn(5, 3))
