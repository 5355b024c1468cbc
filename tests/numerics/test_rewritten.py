"""Norms whose programs are rewritten far, against what their definitions say in plain torch."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import metanorm
from metanorm import runtime

SPECS = metanorm.loads(
    """
norm InstThenBatch(eps = 1e-5, momentum = 0.1) {
  input  x[N, C = num_features, *S]
  let    inner = affine(normalize(x over *S) per C)
  output normalize(inner over N, *S track momentum)
}
norm Parts(eps = 1e-5) {
  input  x[N, C, *S]
  let    inner = affine(normalize(x over *S) per C)
  output y = x + mean(inner over N: blocks(2), *S),
         near = mean(inner over N: window(3), *S),
         total = sum(mean(inner over *S) over N),
         spread = std(mean(inner over *S) over N: blocks(2), C)
}
norm ConditionalGhost(eps = 1e-5) {
  input  x[N, C, *S], label: index[N] of K = num_classes
  param  gamma[K, C] = 1, beta[K, C] = 0
  let    g = normalize(x over N: chunks(2), *S)
  output gamma[label] * g + beta[label]
}
norm GroupsInTraining(size: int) {
  input  x[N, C]
  buffer seen[C] = 0
  update seen = mean(x over N)
  output x - mode(train: mean(x over N: chunks(size)), eval: seen)
}
"""
)


@pytest.fixture(params=["torch", "auto"], autouse=True)
def target(request: pytest.FixtureRequest) -> Iterator[None]:
    with runtime.use(request.param):
        yield


def filled(module: torch.nn.Module) -> torch.nn.Module:
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter)
    return module


def test_a_norm_of_an_affine_norm() -> None:
    norm = filled(SPECS.InstThenBatch(3, dtype=torch.float64))
    x = torch.randn(4, 3, 7, dtype=torch.float64, requires_grad=True)
    inner = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    want = F.batch_norm(inner, None, None, training=True)
    weigh = torch.randn_like(want)
    got = norm(x)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(
        torch.autograd.grad((got * weigh).sum(), x), torch.autograd.grad((want * weigh).sum(), x)
    )


def test_statistics_of_what_became_constant_along_an_axis() -> None:
    norm = filled(SPECS.Parts(3, dtype=torch.float64))
    x = torch.randn(4, 3, 7, dtype=torch.float64)
    inner = F.instance_norm(x, weight=norm.weight, bias=norm.bias)
    mean = inner.mean(2)
    pairs = mean.view(2, 2, 3).mean(1).repeat_interleave(2, 0)
    near = torch.stack([mean[max(i - 1, 0) : i + 2].mean(0) for i in range(4)])
    spread = mean.view(2, 6).std(1, unbiased=False).repeat_interleave(2, 0)
    got = norm(x)
    for actual, expected in zip(got, (x + pairs[:, :, None], near, mean.sum(0), spread)):
        torch.testing.assert_close(actual, expected)


def test_a_lookup_on_an_axis_that_is_cut() -> None:
    norm = filled(SPECS.ConditionalGhost(3, 6))
    x, label = torch.randn(4, 6, 5), torch.tensor([0, 1, 2, 0])
    cut = x.view(2, 2, 6, 5)
    mean, var = cut.mean((1, 3), keepdim=True), cut.var((1, 3), unbiased=False, keepdim=True)
    g = ((cut - mean) / torch.sqrt(var + 1e-5)).view(4, 6, 5)
    want = norm.gamma[label][:, :, None] * g + norm.beta[label][:, :, None]
    torch.testing.assert_close(norm(x, label), want)


def test_groups_that_only_training_has() -> None:
    norm = SPECS.GroupsInTraining(4, 3)
    x = torch.randn(8, 3)
    groups: Tensor = x.view(2, 4, 3).mean(1).repeat_interleave(4, 0)
    torch.testing.assert_close(norm(x), x - groups)
    with pytest.raises(runtime.ShapeError, match="size"):
        norm(x[:5])
    norm.eval()
    for length in (8, 1, 5):
        torch.testing.assert_close(norm(x[:length]), x[:length] - norm.seen)
