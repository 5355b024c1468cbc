"""Equal extremes over edges share a gradient as messages do that torch reduces: edge by edge."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime
from metanorm.frontend import check
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.source import Source

F64 = torch.float64
TEXT = """norm A {
  input  x[V, D], e: edges[V]
  let    s = mean(x over D)
  output x - max(s over V: e) + 2 * min(s over V: e with self)
}"""
# To node 0 twice from 1, once from 2; to node 1 three times from itself and once from 3; none to 2.
EDGES = torch.tensor([[1, 2, 1, 1, 3, 1, 1, 0], [0, 0, 0, 1, 1, 1, 1, 3]])


def reduced(x: Tensor, edges: Tensor, reduce: str) -> Tensor:
    """As PyG aggregates messages; zero where there are none."""
    messages, to = x[edges[0]], edges[1][:, None].expand(-1, x.shape[1])
    return torch.zeros_like(x).scatter_reduce(0, to, messages, reduce, include_self=False)


def by_hand(x: Tensor) -> Tensor:
    with_self = torch.cat((EDGES, torch.arange(4).expand(2, -1)), 1)
    s = x.mean(1, keepdim=True)
    return x - reduced(s, EDGES, "amax") + 2 * reduced(s, with_self, "amin")


def oracle(x: Tensor) -> Tensor:
    checked = check({"t.norm": Source.of("t.norm", TEXT)}, ["t.norm"])
    (norm,) = checked.norms["t.norm"]
    call = Call({"x": x, "e": EDGES}, params={}, buffers={}, hypers={}, groups={}, training=True)
    (output,) = interpret(norm.program, call).outputs.values()
    return output


@pytest.mark.parametrize("who", ["oracle", "torch", "native"])
def test_equal_messages_share_alike(who: str) -> None:
    x = torch.tensor([[3.0, 5], [2, 4], [4, 2], [3, 3]], dtype=F64, requires_grad=True)
    seed = torch.randn(4, 2, dtype=F64)
    (right,) = torch.autograd.grad(by_hand(x), x, seed)
    if who == "oracle":
        y = oracle(x)
        (actual,) = torch.autograd.grad(y, x, seed)
    else:
        with runtime.use(who):  # type: ignore[arg-type]
            y = metanorm.loads(TEXT).A()(x, EDGES)
            (actual,) = torch.autograd.grad(y, x, seed)
    torch.testing.assert_close(y, by_hand(x))
    torch.testing.assert_close(actual, right)
