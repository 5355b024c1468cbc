"""What a call leaves out, by hand: optional inputs whose axes nothing else has, and masked pasts that hold NaN."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from metanorm import loads, runtime

F64 = torch.float64
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
ROWS = torch.tensor([1, 0, 1])

# `k` has the axis N through `seen` alone.
OF_AN_OPTIONAL_INPUT = """
norm Counted {
  input  x[N, T, C], seen[N] = 2, rows: index[M] of N
  let    k = seen + position(T)
  let    first = k[N = 0]
  let    shares = softmax(k over N)
  let    total = sum(k over N)
  let    largest = max(k over N, T)
  let    along = scan(k over N, decay = 0.5)
  let    later = scan(x over T, decay = 0.5, start = 1 + seen)
  output x * k + later, first, last = k[T = -1], both = k[N = 0, T = -1], shares, total, largest, along, other = k[rows]
}
"""


def counted(x: Tensor, seen: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    k = seen[:, None] + torch.arange(x.shape[1]).to(x)
    along, state, states = [k[0]], (1 + seen)[:, None].expand(-1, x.shape[2]), []
    for row in k[1:]:
        along.append(0.5 * along[-1] + row)
    for t in range(x.shape[1]):
        state = 0.5 * state + x[:, t]
        states.append(state)
    return (
        x * k[..., None] + torch.stack(states, 1),
        k[0],
        k[:, -1],
        k[0, -1],
        k.softmax(0),
        k.sum(0),
        k.max(),
        torch.stack(along),
        k[rows],
    )


@pytest.mark.parametrize("with_seen", [True, False])
def test_a_value_has_the_axes_of_an_input_that_a_call_leaves_out(with_seen: bool) -> None:
    x = torch.randn(2, 4, 3, dtype=F64)
    seen = torch.randn(2, dtype=F64) if with_seen else torch.full((2,), 2.0, dtype=F64)
    norm = loads(OF_AN_OPTIONAL_INPUT).Counted()
    result = norm(x, seen=seen if with_seen else None, rows=ROWS % 2)
    for ours, theirs in zip(result, counted(x, seen, ROWS % 2)):
        torch.testing.assert_close(ours, theirs)


MASKED_PASTS = """
norm Past(eps = 1e-3) {
  input  x[N, T], keep: mask[N, T]
  reduce T: causal(5) where keep
}
norm Around(eps = 1e-3) {
  input  x[N, T], keep: mask[N, T]
  reduce T: window(5) where keep
}
"""
REACHES = pytest.mark.parametrize(("name", "before", "after"), [("Past", 4, 0), ("Around", 2, 2)])


def of_kept(x: Tensor, keep: Tensor, before: int, after: int) -> Tensor:
    """Each position by the kept ones around it; one around which nothing is kept is zero."""
    columns = []
    for t in range(x.shape[1]):
        near = slice(max(0, t - before), t + after + 1)
        column = []
        for row, kept in zip(x, keep):
            values = row[near][kept[near]]
            if not len(values):
                column.append(row.new_zeros(()))
                continue
            std = (values.var(correction=0) + 1e-3).sqrt()
            column.append((row[t] - values.mean()) / std)
        columns.append(torch.stack(column))
    return torch.stack(columns, 1)


def gradient(norm: nn.Module, x: Tensor, keep: Tensor, target: str) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    with runtime.use(target):
        y = norm(leaf, keep)
        y[~y.isnan()].sum().backward()
    assert leaf.grad is not None
    return y.detach(), leaf.grad


@TARGETS
@REACHES
def test_a_masked_nan_reaches_no_gradient(name: str, before: int, after: int, target: str) -> None:
    x = torch.randn(2, 11, dtype=F64)
    keep = torch.ones(2, 11, dtype=torch.bool)
    keep[0, [0, 4, 7]] = False
    x[0, 4] = float("nan")
    y, grad = gradient(getattr(loads(MASKED_PASTS), name)(), x, keep, target)

    leaf = x.nan_to_num(0).requires_grad_()  # its value counts nowhere but in its own result
    expected = of_kept(leaf, keep, before, after)
    is_left_out = torch.zeros_like(keep)
    is_left_out[0, 4] = True
    expected[~is_left_out].sum().backward()
    torch.testing.assert_close(y[~is_left_out], expected.detach()[~is_left_out])
    assert y[is_left_out].isnan().all()
    torch.testing.assert_close(grad, leaf.grad)


@TARGETS
@REACHES
def test_a_kept_nan_reaches_the_gradient_of_no_masked_element(
    name: str, before: int, after: int, target: str
) -> None:
    x = torch.randn(1, 11, dtype=F64)
    keep = torch.ones(1, 11, dtype=torch.bool)
    keep[0, [0, 4, 10]] = False
    x[0, 5] = float("nan")
    leaf = x.clone().requires_grad_()
    with runtime.use(target):
        getattr(loads(MASKED_PASTS), name)()(leaf, keep).sum().backward()
    assert leaf.grad is not None
    outside = [0, 10] if name == "Around" else [0, 4, 10]  # whose own pools do not hold the NaN
    assert leaf.grad[0, outside].isfinite().all()
