"""Outputs with one row for each cell, by hand: groups of an index, segments, blocks and chunks."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from by_hand import References
from torch import Tensor

from metanorm import loads, runtime

F64 = torch.float64
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
LABELS = torch.tensor([0, 2, 0, 2, 4, 2])  # groups 1 and 3 are empty
OFFSETS = torch.tensor([0, 2, 2, 5, 6])
references = References()


def of_graphs(x: Tensor) -> Tensor:
    members = [x[torch.eq(LABELS, group)] for group in range(5)]
    return torch.stack([m.mean(0) if len(m) else x.new_zeros(x.shape[1]) for m in members])


@references(
    "norm Graphs { input x[V, C], batch: index[V]  let m = mean(x over V: batch)  "
    "output x - m, m = cells(m), n = cells(count(over V: batch)), spread = m }",
    x=(6, 3),
    batch=LABELS,
)
def graphs(x: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
    m, sizes = of_graphs(x), torch.bincount(batch, minlength=5).to(x)
    return x - m[batch], m, sizes, m[batch]


@references(
    "norm Segmented { input x[B, T, C], cu: offsets[T]  let top = max(x over T: cu, C)  "
    "output x - top, cells(top) }",
    x=(2, 6, 3),
    cu=OFFSETS,
)
def segmented(x: Tensor, cu: Tensor) -> tuple[Tensor, ...]:
    zero = x.new_zeros(x.shape[0])
    tops = [x[:, a:b].amax((1, 2)) if b > a else zero for a, b in pairwise(cu.tolist())]
    top = torch.stack(tops, 1)
    return x - top.repeat_interleave(cu.diff(), 1)[..., None], top


@references(
    "norm Blocked(groups: int, width: int, eps = 1e-5) { input x[N, C, T, *S]  "
    "let m = moments(x over C: blocks(groups), T: chunks(width))  "
    "output (x - m.mean) / sqrt(m.var + eps), cells(m.mean), spread = cells(2 * m.var) }",
    {"groups": 2, "width": 3},
    x=(2, 4, 6, 2, 2),
)
def blocked(x: Tensor) -> tuple[Tensor, ...]:
    parts = x.unflatten(1, (2, 2)).unflatten(3, (2, 3))
    var, mean = torch.var_mean(parts, (2, 4), correction=0, keepdim=True)
    y = ((parts - mean) / (var + 1e-5).sqrt()).flatten(3, 4).flatten(1, 2)
    return y, mean[:, :, 0, :, 0], 2 * var[:, :, 0, :, 0]


@references(
    "norm Interleaved { input x[N, C, T]  let m = mean(x over C: interleave(2), T)  "
    "output x * m, cells(m), sizes = cells(count(over C: interleave(2))) }",
    x=(2, 6, 3),
)
def interleaved(x: Tensor) -> tuple[Tensor, ...]:
    m = x.unflatten(1, (3, 2)).mean((1, 3))
    return x * m.repeat(1, 3)[..., None], m, torch.full((2,), 3.0, dtype=x.dtype)


@references(
    "norm TwoCuts { input x[N, C]  let m = mean(x over C: blocks(2))  "
    "let n = mean(x over C: chunks(2))  output x - m * n, cells(m), cells(n) }",
    x=(3, 8),
    torch_only="a window, a given matrix or blocks of several sizes",
)
def two_cuts(x: Tensor) -> tuple[Tensor, ...]:
    m, n = x.unflatten(1, (2, 4)).mean(2), x.unflatten(1, (4, 2)).mean(2)
    return x - m.repeat_interleave(4, 1) * n.repeat_interleave(2, 1), m, n


@references(
    "norm Sizes { input x[N, C]  let m = mean(x over C: blocks(2))  "
    "output x - m, n = count(over C: blocks(2)), inner = cells(count(over C: blocks(2))) }",
    x=(3, 8),
)
def counts_of_blocks(x: Tensor) -> tuple[Tensor, ...]:
    m = x.unflatten(1, (2, 4)).mean(2)
    return x - m.repeat_interleave(4, 1), torch.full((8,), 4.0).to(x), torch.full((2,), 4.0).to(x)


@references(
    "norm Last { input x[N, C, T], g: index[T]  let m = mean(x over T: g)  "
    "let q = sum(x over C: blocks(2))  output x - q, cells(m), cells(q), spread = m }",
    x=(2, 4, 6),
    g=LABELS,
)
def groups_of_the_last_dimension(x: Tensor, g: Tensor) -> tuple[Tensor, ...]:
    m = torch.stack([of_graphs(sample.T).T for sample in x])
    q = x.unflatten(1, (2, 2)).sum(2)
    return x - q.repeat_interleave(2, 1), m, q, m[..., g]


@references(
    "norm Kept { input x[N, C = c], keep: mask[N], trust[N], label: index[N] of K = k  "
    "param w[C] = 1  let m = w * mean(x over N: label where keep weight trust)  "
    "output x + m, cells(m) }",
    {"c": 3, "k": 5},
    x=(6, 3),
    keep=torch.tensor([True, True, False, True, True, True]),
    trust=torch.rand(6, dtype=F64) + 0.5,
    label=LABELS,
    torch_only="a table of unknown length",
)
def kept(x: Tensor, keep: Tensor, trust: Tensor, label: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    weights = (trust * keep)[:, None] * torch.nn.functional.one_hot(label, 5)
    total = weights.sum(0)[:, None]
    m = w * torch.where(total > 0, weights.T @ x / total.clamp(min=1e-30), 0.0)
    return x + m[label], m


@references(
    "norm Inner { input x[V, C], batch: index[V]  let m = mean(x over V: batch)  "
    "output x - m, m = cells(m) } "
    "norm Outer { input x[T, C], batch: index[T]  let r = Inner(x, batch)  "
    "output 2 * r, inner = cells(r.m), spread = r.m }",
    x=(6, 3),
    batch=LABELS,
)
def outer(x: Tensor, batch: Tensor) -> tuple[Tensor, ...]:
    m = of_graphs(x)
    return 2 * (x - m[batch]), m, m[batch]


@TARGETS
@pytest.mark.parametrize("name", references.names())
def test_reference(name: str, target: str) -> None:
    references.check(name, target)


def test_entry_takes_the_rows_back() -> None:
    norm = loads(
        """
        norm Series(eps = 1e-5) {
          input  x[V, C], series: index[V]
          let    m = moments(x over V: series)
          let    std = sqrt(m.var + eps)
          output y = (x - m.mean) / std, mean = cells(m.mean), std = cells(std)
          entry  back(y[V, C], series: index[V] of K, mean[K, C], std[K, C]) {
            output y * std[series] + mean[series]
          }
        }
        """
    ).Series()
    x = torch.randn(6, 3, dtype=F64)
    y, mean, std = norm(x, LABELS)
    assert mean.shape == std.shape == (5, 3)
    torch.testing.assert_close(norm.back(y, LABELS, mean, std), x)
    few = norm.back(y[1:2], LABELS[1:2], mean, std)  # any positions of these series
    torch.testing.assert_close(few, x[1:2])


STATED = """
norm Told {
  input  x[V, C], batch: index[V]
  let    m = mean(x over V: batch)
  output x - m, m = cells(m)
  backward { gradient x = grad.output + 3 * grad.m }
}
norm ToldOfBlocks {
  input  x[N, C]
  let    m = mean(x over C: blocks(2))
  output x - m, m = cells(m)
  backward { gradient x = grad.output + 3 * grad.m }
}
"""


@TARGETS
def test_gradients_arrive_in_cells(target: str) -> None:
    module = loads(STATED)
    x = torch.randn(6, 4, dtype=F64, requires_grad=True)
    with runtime.use(target):  # type: ignore[arg-type]
        y, m = module.Told()(x, LABELS)
        one, other = torch.randn_like(y), torch.randn_like(m)
        (gradient,) = torch.autograd.grad((y, m), x, (one, other))
        torch.testing.assert_close(gradient, one + 3 * other[LABELS])
        y, m = module.ToldOfBlocks()(x)
        other = torch.randn_like(m)
        (gradient,) = torch.autograd.grad((y, m), x, (one, other))
        torch.testing.assert_close(gradient, one + 3 * other.repeat_interleave(2, 1))


@TARGETS
def test_calls_without_elements(target: str) -> None:
    norms = references.module
    with runtime.use(target):  # type: ignore[arg-type]
        none = norms.Graphs()(torch.zeros(0, 3), torch.zeros(0, dtype=torch.long), batch_size=2)
        assert [tuple(t.shape) for t in none] == [(0, 3), (2, 3), (2,), (0, 3)]
        none = norms.Blocked(2, 3)(torch.zeros(0, 4, 6))
        assert [tuple(t.shape) for t in none] == [(0, 4, 6), (0, 2, 2), (0, 2, 2)]
        alone = norms.Graphs()(torch.ones(3, 2))  # without an index, all is one group
        assert [tuple(t.shape) for t in alone] == [(3, 2), (1, 2), (1,), (3, 2)]


def test_calls_of_other_sizes_reach_one_plan() -> None:
    """The call path in C reads how many groups and chunks there are at each call."""
    norms = references.module
    with runtime.use("native"):
        for n in (3, 5, 5, 9):
            labels, x = torch.arange(n) // 2, torch.randn(n, 4)
            _, m, *_ = norms.Graphs()(x, labels)
            assert m.shape == ((n + 1) // 2, 4)
            _, m, *_ = norms.Graphs()(x, labels, batch_size=n)
            assert m.shape == (n, 4) and not m[(n + 1) // 2 :].any()
            _, m, _ = norms.Blocked(2, 3)(torch.randn(n, 4, 3 * n, 2))
            assert m.shape == (n, 2, n, 2)


def test_export_and_compile() -> None:
    norm, x = references.module.Graphs(), torch.randn(6, 3)
    right = norm(x, LABELS, 5)
    program = torch.export.export(norm, (x, LABELS, 5))
    for one, other in zip(program.module()(x, LABELS, 5), right):
        torch.testing.assert_close(one, other)
    with runtime.use("native"):
        compiled = torch.compile(norm, backend="aot_eager", fullgraph=True, dynamic=False)
        for one, other in zip(compiled(x, LABELS, 5), right):
            torch.testing.assert_close(one, other)
    blocked = references.module.Blocked(2, 3)
    x = torch.randn(2, 4, 6, 2)
    with runtime.use("native"):
        compiled = torch.compile(blocked, backend="aot_eager", fullgraph=True, dynamic=False)
        for one, other in zip(compiled(x), blocked(x)):
            torch.testing.assert_close(one, other)


def test_functions_over_a_batch_of_calls() -> None:
    norm, x = references.module.Blocked(2, 3), torch.randn(3, 2, 4, 6, dtype=F64)
    together = torch.func.vmap(norm)(x)
    for i, each in enumerate(x):
        for one, other in zip(norm(each), together):
            torch.testing.assert_close(one, other[i])


def test_docstring_says_how_many_rows_there_are() -> None:
    module = references.module
    assert "m: [groups of batch, C]" in module.Graphs.__doc__
    assert "top: [B, segments of cu]" in module.Segmented.__doc__
    assert "mean: [N, groups, size(T) // width, *S]" in module.Blocked.__doc__
