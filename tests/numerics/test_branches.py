"""What one branch of a mode or of a flag computes, another one does not read."""

from __future__ import annotations

import pytest
import torch

from metanorm import loads

F64 = torch.float64
SPEC = """
norm Rooted {
  input  x[N, C]
  let    v = var(x over C) + 1
  output mode(train: x * sqrt(v), eval: x / sqrt(v))
}
norm RootedByFlag(flag = true) {
  input  x[N, C]
  let    v = var(x over C) + 1
  output mode(train: where(flag, x * sqrt(v), 2 * x) / sqrt(v), eval: x)
}
norm Carried(flag = true) {
  input  x[N, C]
  let    p = x
  let    q = x + 1
  repeat 3 {
    p = where(flag, p, 1) + tanh(mode(train: p, eval: q))
    q = q + mode(train: x, eval: q)
  }
  output p * q
}
norm Padded {
  input  x[N, T], keep: mask[T] = true, w[T] = 1
  output a = x + mean(x over T: window(2, edge = zero) where keep),
         b = var(x over T: window(3, edge = zero) weight w)
}
"""
NORMS = loads(SPEC)


@pytest.mark.parametrize("training", [True, False])
def test_a_root_of_one_branch(training: bool) -> None:
    x = torch.randn(3, 4, dtype=F64)
    root = (x.var(1, correction=0, keepdim=True) + 1).sqrt()
    y = NORMS.Rooted().train(training)(x)
    torch.testing.assert_close(y, x * root if training else x / root)
    for flag in (True, False):
        y = NORMS.RootedByFlag(flag=flag).train(training)(x)
        torch.testing.assert_close(y, x if flag or not training else 2 * x / root)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("flag", [True, False])
def test_a_branch_may_be_what_a_loop_carries(flag: bool, training: bool) -> None:
    x = torch.randn(3, 4, dtype=F64)
    p, q = x, x + 1
    for _ in range(3):
        p = (p if flag else 1) + torch.tanh(p if training else q)
        q = q + (x if training else q)
    torch.testing.assert_close(NORMS.Carried(flag=flag).train(training)(x), p * q)


def test_a_mask_that_is_left_out_is_true_everywhere() -> None:
    """Zeros beyond the border count beside no mask alone."""
    x = torch.randn(3, 4, dtype=F64)
    everywhere = torch.ones(4, dtype=torch.bool), torch.ones(4, dtype=F64)
    for left_out, with_all in zip(NORMS.Padded()(x), NORMS.Padded()(x, *everywhere)):
        torch.testing.assert_close(left_out, with_all)
    before = torch.cat((x[:, :1], (x[:, 1:] + x[:, :-1]) / 2), 1)
    torch.testing.assert_close(NORMS.Padded()(x).a, x + before)
