"""Counts that come from shares of lengths, random values with one name, counters of batches, and
what training alone needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

import metanorm
from metanorm import runtime

CONDITIONS = {
    "Below": "position(C) < p * size(C)",
    "AtMost": "position(C) + 1 <= size(C) * p",
    "Above": "p * size(C) > position(C)",
    "Last": "size(C) - position(C) <= p * size(C)",
}
SHARE = """
norm NAME(p: float) {
  input  x[N, C]
  output sum(where(CONDITION, x, 0) over C) + 0 * x
}
"""
COUNTS = {
    "Below": lambda n, p: sum(i < p * n for i in range(n)),
    "AtMost": lambda n, p: sum(i + 1 <= n * p for i in range(n)),
    "Above": lambda n, p: sum(p * n > i for i in range(n)),
    "Last": lambda n, p: sum(n - i <= p * n for i in range(n)),
}


@pytest.mark.parametrize("name", COUNTS)
def test_a_share_is_one_count_everywhere(name: str) -> None:
    spec = SHARE.replace("NAME", name).replace("CONDITION", CONDITIONS[name])
    norm = getattr(metanorm.loads(spec), name)
    for length, share in ((75, 0.84), (100, 0.53), (100, 0.29), (100, 0.57), (64, 0.25), (10, 0.3)):
        right = COUNTS[name](length, share)
        for dtype in (torch.float64, torch.float32, torch.bfloat16):
            x = torch.ones(1, length, dtype=dtype)
            for target in ("torch", "native"):
                with runtime.use(target):
                    assert norm(share)(x)[0, 0] == right, (length, share, dtype, target)


TWICE = """
norm Twice for weight {
  input  w[O, *I]
  let    start = normal(0, 1 per O)
  buffer a[O] = init start, b[O] = init 2 * start, alone[O] = init sum(w over *I)
  param  c[O] = init start + l2(w over *I)
  output w * (1 + 0 * (a + b + c + alone))
}
norm Spread for weight {
  input  w[O, *I]
  param  p[O] = normal(0, 1 / sqrt(size(O)))
  output w * p
}
norm Fixed for weight {
  input  w[O, *I]
  param  g[K = 3] = init l2(w over O, *I)
  buffer h[K] = init 2 * l2(w over O, *I)
  output w * g[0] * h[1]
}
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_a_random_value_is_drawn_once(dtype: torch.dtype) -> None:
    layer, norm = nn.Linear(3, 5, dtype=dtype), metanorm.loads(TWICE).Twice()
    register_parametrization(layer, "weight", norm)
    start = norm.a
    assert start.std() > 0
    torch.testing.assert_close(norm.b, 2 * start)
    length = layer.parametrizations.weight.original.detach().float().norm(dim=1)
    torch.testing.assert_close(
        norm.c.detach(), (start.float() + length).to(dtype), rtol=1e-2, atol=1e-2
    )
    norm.right_inverse(torch.ones(5, 3))  # drawn anew
    assert not torch.equal(norm.a, start)


def test_what_begins_may_have_a_written_length_or_depend_on_one() -> None:
    norms, layer = metanorm.loads(TWICE), nn.Linear(3, 400)
    w = layer.weight.detach().clone()
    register_parametrization(layer, "weight", norms.Spread())
    assert 0.9 < layer.parametrizations.weight[0].p.std() * 20 < 1.1
    layer = nn.Linear(3, 400)
    layer.weight.data.copy_(w)
    register_parametrization(layer, "weight", norms.Fixed())
    torch.testing.assert_close(layer.weight, w * w.norm() * 2 * w.norm())
    assert layer.parametrizations.weight[0].g.shape == (3,)


CUTS = """
norm Shared(group: int, momentum = 0.1) {
  input  x[N, C, *S]
  buffer kept[C] = 0
  let    own = mean(x over N: chunks(group), *S) * group
  update kept = kept + momentum * (mean(x over N, *S) - kept)
  output x - 2 * mode(train: own, eval: kept)
}
norm Written(momentum = 0.1) {
  input  x[N, C, *S]
  buffer kept[C] = 0
  update kept = kept + momentum * (mean(x over N, *S) - kept)
  output x - 2 * mode(train: mean(x over N: chunks(4), *S), eval: kept)
}
norm Tracked(momentum = 0.1) {
  input  x[N, C, *S]
  output normalize(x over N: chunks(4), *S track momentum)
}
"""


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize(
    "name, arguments", [("Shared", (4, 3)), ("Written", (3,)), ("Tracked", (3,))]
)
def test_evaluation_does_not_demand_what_training_needs(
    name: str, arguments: tuple[int, ...], target: Any
) -> None:
    norm = getattr(metanorm.loads(CUTS), name)(*arguments)
    x, batch = torch.randn(3, 3, 2), torch.randn(8, 3, 2) + 1
    with runtime.use(target):
        y = norm.train()(batch)
        group_mean = (
            batch.view(2, 4, 3, 2).mean((1, 3), keepdim=True).expand(2, 4, 3, 2).reshape(8, 3, 2)
        )
        if name != "Tracked":
            torch.testing.assert_close(y, batch - 2 * group_mean * (4 if name == "Shared" else 1))
        y = norm.eval()(x)
        if name == "Tracked":
            right = (x - norm.running_mean[:, None]) / torch.sqrt(norm.running_var[:, None] + 1e-5)
        else:
            right = x - 2 * norm.kept[:, None]
        torch.testing.assert_close(y, right)
        with pytest.raises(runtime.ShapeError, match="N = 3 is not divisible"):
            norm.train()(x)
        if name == "Tracked":
            bare = metanorm.loads(CUTS).Tracked(3, track_running_stats=False).eval()
            with pytest.raises(runtime.ShapeError, match="N = 3 is not divisible"):
                bare(x)


def states(ours: nn.Module, theirs: nn.Module, batches: list[torch.Tensor]) -> None:
    """Both counters and running statistics after these batches."""
    for x in batches:
        ours(x), theirs(x)
        assert ours.num_batches_tracked == theirs.num_batches_tracked
        torch.testing.assert_close(ours.running_mean, theirs.running_mean)
        torch.testing.assert_close(ours.running_var, theirs.running_var)


@pytest.mark.parametrize("momentum", [0.1, 0.0, None])
def test_counters_count_as_those_of_torch(momentum: float | None) -> None:
    batches = [torch.randn(4, 3, 5), torch.empty(0, 3, 5), torch.randn(2, 3, 5)]
    ours = metanorm.load("specs/batch_norm.norm").BatchNorm(3, momentum=momentum)
    states(ours, nn.BatchNorm1d(3, momentum=momentum), batches)
    make = metanorm.load("specs/instance_norm.norm").InstanceNorm
    ours = make(3, momentum=momentum, track_running_stats=True)
    theirs = nn.InstanceNorm1d(3, momentum=momentum, track_running_stats=True)
    states(ours, theirs, [batches[0], batches[2]])


def test_an_empty_graph_counts_as_zeros() -> None:
    """As in PyG, which divides sums by at least one."""
    make = metanorm.load("specs/graph_instance_norm.norm").GraphInstanceNorm
    norm = make(3, track_running_stats=True).double()
    x, batch = torch.randn(5, 3, dtype=torch.float64), torch.tensor([0, 0, 2, 2, 2])
    norm(x, batch, 4)
    mean = (x[:2].mean(0) + x[2:].mean(0)) / 4
    var = (x[:2].var(0) + x[2:].var(0)) / 4
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * var)
