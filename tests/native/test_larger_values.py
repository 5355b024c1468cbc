"""Values larger than the data on kernels: an element has one for each group, and pools them."""

from __future__ import annotations

import pytest
import torch
from layers import F64, agree, channels_last, everything, kernels_counted, strided, weighted
from torch import Tensor

import metanorm

N, C, G = 5, 24, 4
NORM = """
norm Large(momentum = 0.1) {
  input x[N, C, *S], a[N]
  param w[G = groups, C] = uniform(-1, 1)
  param v[H = 3] = 1
  let share = softmax(sum(w * tanh(x) over C) over G)
  let m = moments(share * x over N, *S track momentum)
  let all = sum(w * x * a over G, N)
  output x * sum(exp(w * share) over G) + sum(share * m.mean * w over G) +
    sum(m.var * w over G) * all + mean(v * x * w * a over G, H)
}
"""


def by_hand(x: Tensor, a: Tensor, w: Tensor, v: Tensor) -> Tensor:
    """The same with tensors [N, G, C, S, T]."""
    wide, w = x[:, None], w[None, :, :, None, None]
    share = (w * wide.tanh()).sum(2, keepdim=True).softmax(1)
    product, a = share * wide, a[:, None, None, None, None]
    mean = product.mean((0, 3, 4), keepdim=True)
    var = product.var((0, 3, 4), unbiased=False, keepdim=True)
    every = (w * wide * a).sum((0, 1))
    first = x * (w * share).exp().sum(1) + (share * mean * w).sum(1)
    return first + (var * w).sum(1) * every + (wide * w * a).mean(1) * v.mean()


LAYOUTS = {"plain": Tensor.contiguous, "channels last": channels_last, "strided": strided}


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(5, 3), (40, 30), (1, 1)])
def test_agrees_with_torch(layout: str, shape: tuple[int, int], threads: int) -> None:
    norm = metanorm.loads(NORM).Large(c=C, groups=G).to(F64)
    with torch.no_grad():
        norm.v.uniform_(-1, 2)
    x, a = LAYOUTS[layout](torch.randn(N, C, *shape, dtype=F64)), torch.randn(N, dtype=F64)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with kernels_counted() as counted:
            actual = everything("native", norm, x, {"a": a}, weighted)
        assert len(counted) == 2
    finally:
        torch.set_num_threads(before)
    agree(actual, everything("torch", norm, x, {"a": a}, weighted))
    leaves = [t.detach().clone().requires_grad_() for t in (x, a, norm.w, norm.v)]
    y = by_hand(*leaves)
    torch.testing.assert_close(actual["output 0"], y.detach())
    right = torch.autograd.grad(y, leaves, weighted(y.detach()))
    for name, wanted in zip("xawv", right):
        torch.testing.assert_close(actual[f"gradient of {name}"], wanted)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    norm = metanorm.loads(NORM).Large(c=C, groups=G).to(dtype)
    x, a = torch.randn(N, C, 7, 5).to(dtype), torch.randn(N).to(dtype)
    actual = everything("native", norm, x, {"a": a}, weighted)
    right = everything("torch", norm, x, {"a": a}, weighted)
    bound = 1e-4 if dtype == torch.float32 else 0.05
    agree(actual, right, rtol=bound, atol=bound)
