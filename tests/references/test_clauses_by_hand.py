"""Clauses and statements of the language page, each by hand in plain torch."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor

references = References()


@references("norm Reduced { input x[N, C = c, *S]  reduce C, *S  affine C }",
            x=(2, 3, 4), arguments={"c": 3})  # fmt: skip
def reduced(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = torch.nn.functional.layer_norm(x, x.shape[1:], eps=1e-5)
    return y * weight[:, None] + bias[:, None]


@references("norm NoShift { input x[N, C]  reduce C  shift none }", x=(2, 3))
def no_shift(x: Tensor) -> Tensor:
    return x / torch.sqrt((x * x).mean(1, keepdim=True) + 1e-5)


@references("norm PlainShift { input x[N, C]  reduce C  shift mean  scale std }", x=(2, 3))
def plain_shift(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)


@references("norm LearnedShift { input x[N, C = c]  reduce N  shift p[C] = 1 }",
            x=(4, 3), arguments={"c": 3})  # fmt: skip
def learned_shift(x: Tensor, p: Tensor) -> Tensor:
    """The variance is about what is subtracted, as in GraphNorm."""
    centred = x - p * x.mean(0)
    return centred / torch.sqrt((centred**2).mean(0) + 1e-5)


@references(
    "norm WrittenShift { input x[N, C]  reduce N  shift max(x over N)  scale none }", x=(4, 3)
)
def written_shift(x: Tensor) -> Tensor:
    return x - x.amax(0)


@references("norm MeanDeviation(eps = 1e-3) { input x[N, C]  reduce C  scale l1 }", x=(2, 5))
def mean_deviation(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.abs().mean(1, keepdim=True) + 1e-3)


@references("norm LargestDeviation(eps = 1e-3) { input x[N, C]  reduce C  scale max }", x=(2, 5))
def largest_deviation(x: Tensor) -> Tensor:
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.abs().amax(1, keepdim=True) + 1e-3)


@references("norm WrittenScale { input x[N, C]  reduce C  scale sqrt(var) + 0.5 }", x=(2, 5))
def written_scale(x: Tensor) -> Tensor:
    return (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True, unbiased=False) + 0.5)


@references(
    "norm Output { input x[N, C]  reduce C  output x + 2 * normalized + mean - var }", x=(2, 5)
)
def output(x: Tensor) -> Tensor:
    mean, var = x.mean(1, keepdim=True), x.var(1, keepdim=True, unbiased=False)
    return x + 2 * (x - mean) / torch.sqrt(var + 1e-5) + mean - var


@references("norm OutputOfAffine { input x[N, C = c]  reduce N  affine weight[C]  output tanh(normalized) }",
            x=(4, 3), arguments={"c": 3})  # fmt: skip
def output_of_affine(x: Tensor, weight: Tensor) -> Tensor:
    y = (x - x.mean(0)) / torch.sqrt(x.var(0, unbiased=False) + 1e-5)
    return torch.tanh(y * weight)


@references(
    "norm Mixed { input x[N, C, *S]  stat inst over *S  stat layer over C, *S  mix inst, layer by softmax }",
    x=(2, 3, 4),
)  # fmt: skip
def mixed(x: Tensor, mean_weight: Tensor, var_weight: Tensor) -> Tensor:
    a, b = torch.softmax(mean_weight, 0)
    c, d = torch.softmax(var_weight, 0)
    mean = a * x.mean(2, keepdim=True) + b * x.mean((1, 2), keepdim=True)
    var = c * x.var(2, keepdim=True, unbiased=False) + d * x.var(
        (1, 2), keepdim=True, unbiased=False
    )
    return (x - mean) / torch.sqrt(var + 1e-5)


@references(
    "norm MixedSparsely { input x[N, C, *S]  stat inst over *S  stat layer over C, *S\n"
    " mix inst, layer by sparsestmax(0.75)  output normalized + inst.mean }",
    x=(2, 3, 4),
)  # fmt: skip
def mixed_sparsely(x: Tensor, mean_weight: Tensor, var_weight: Tensor) -> Tensor:
    """Beyond a radius of sqrt(1/2) one of two is left: the one with the larger weight."""
    dims: list[tuple[int, ...]] = [(2,), (1, 2)]
    mean = x.mean(dims[int(mean_weight.argmax())], keepdim=True)
    var = x.var(dims[int(var_weight.argmax())], keepdim=True, unbiased=False)
    zero = 0 * (mean_weight.sum() + var_weight.sum())
    return (x - mean) / torch.sqrt(var + 1e-5) + x.mean(2, keepdim=True) + zero


@references(
    "norm Statements(slope = 0.5, limit: float = 2, twice: int = 2, flag = true) { input x[N, C = c]\n"
    " param p[C] = 1 in [0, 1], q = 0, w[H = 2, C] = normal(0, 0.02), alpha[One = 1] = 0.5\n"
    " let spread[N, C] = p\n let v[N] = 1\n"
    " repeat twice { v = v / 2 + mean(x * v over C) }\n"
    " output where(flag, x * v * spread, 0) + q * slope / limit + sum(w over H) * alpha[0] }",
    x=(4, 3), arguments={"c": 3}, torch_only="repeat",
)  # fmt: skip
def statements(x: Tensor, p: Tensor, q: Tensor, w: Tensor, alpha: Tensor) -> Tensor:
    v = x.new_ones(4, 1)
    for _ in range(2):
        v = v / 2 + (x * v).mean(1, keepdim=True)
    return x * v * p + q * 0.25 + w.sum(0) * alpha


@references(
    "norm RepeatedAndMasked { input x[N, C], keep: mask[C]\n let v = x\n"
    " repeat 2 { v = tanh(sum(v over C) - v) }\n output x * mean(v over C where keep) }",
    x=(2, 3), keep=torch.tensor([True, False, True]), torch_only="repeat",
)  # fmt: skip
def repeated_and_masked(x: Tensor, keep: Tensor) -> Tensor:
    v = x
    for _ in range(2):
        v = torch.tanh(v.sum(1, keepdim=True) - v)
    return x * v[:, keep].mean(1, keepdim=True)


@references(
    "norm TwoOutputs { input x[N, C]  let m = moments(x over C)  output y = x - m.mean, mean = m.mean, m.var }",
    x=(2, 5),
)  # fmt: skip
def two_outputs(x: Tensor) -> tuple[Tensor, ...]:
    return x - x.mean(1, keepdim=True), x.mean(1), x.var(1, unbiased=False)


@references(
    "norm Inner(eps = 1e-5, gain = 1) { input x[N, C = c]  output affine(gain * normalize(x over C) per C) }\n"
    "norm Calling { input x[N, C = c]  let b = Inner(x, eps = 1e-3, gain = 2)\n"
    " let d = Inner(tanh(x))  output x + b * d }",
    x=(4, 3), arguments={"c": 3},
)  # fmt: skip
def calling(
    x: Tensor, b_weight: Tensor, b_bias: Tensor, d_weight: Tensor, d_bias: Tensor
) -> Tensor:
    def inner(x: Tensor, eps: float) -> Tensor:
        return torch.nn.functional.layer_norm(x, (3,), eps=eps)

    return x + (2 * inner(x, 1e-3) * b_weight + b_bias) * (
        inner(x.tanh(), 1e-5) * d_weight + d_bias
    )


@references(
    'use "group_norm.norm"\nnorm Used { input x[N, C, *S]  output GroupNorm(x, num_groups = 1, eps = 1e-2) }',
    x=(4, 3, 2), arguments={"c": 3},
)  # fmt: skip
def used(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return torch.nn.functional.group_norm(x, 1, weight, bias, 1e-2)


@references(
    "norm RescaledConditions { input x[N, C], u[N], keep: mask[N, C]\n"
    " output x * (u - u * (u > x)) + (2 * keep - u) }",
    x=(2, 3), u=(2,), keep=torch.tensor([[True, False, True], [False, True, True]]),
)  # fmt: skip
def rescaled_conditions(x: Tensor, u: Tensor, keep: Tensor) -> Tensor:
    u = u[:, None]
    return torch.where(u > x, 0, x * u) + 2 * keep.double() - u


@references("norm Gradient for gradient { input grad[O, *I]  output grad - mean(grad over *I) }",
            grad=(3, 2, 2))  # fmt: skip
def gradient(grad: Tensor) -> Tensor:
    return grad - grad.mean((1, 2), keepdim=True)


@references(
    "norm Loss for loss { input x[N, C, *S]  let m = moments(x over N, *S)\n"
    " output mean(0.5 * (m.mean^2 + m.var - log(m.var + 1e-5) - 1) over C) }",
    x=(4, 3, 2),
)  # fmt: skip
def loss(x: Tensor) -> Tensor:
    mean, var = x.mean((0, 2)), x.var((0, 2), unbiased=False)
    return (0.5 * (mean**2 + var - torch.log(var + 1e-5) - 1)).mean()


@pytest.mark.parametrize("target", ["torch", "native"])
@pytest.mark.parametrize("name", references.names())
def test_what_is_written_by_hand_agrees(name: str, target: str) -> None:
    references.check(name, target)
