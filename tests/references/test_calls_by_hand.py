"""Calls of norms: which axes are meant, several outputs, defaults, shared parameters, by hand."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor, nn
from torch.nn.functional import group_norm, layer_norm, rms_norm

references = References()
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
F64 = torch.float64
KEEP = torch.tensor([[True, True, False], [True, False, True]])
LABEL = torch.tensor([0, 1, 1, 0, 2])


@references(
    """
    use "layer_norm.norm"
    norm SeveralAxes { input x[N, H = heads, T, E = dim]  output LayerNorm(x, D = (H, E)) }
    """,
    {"heads": 2, "dim": 3},
    x=(4, 2, 5, 3),
)
def several_axes(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    y = layer_norm(x.transpose(1, 2).reshape(4, 5, 6), (6,), eps=1e-5).reshape(4, 5, 2, 3)
    return (y.transpose(1, 2)) * weight[:, None] + bias[:, None]


@references(
    """
    norm Along { input x[N, T]  reduce T }
    norm OtherWay { input x[T, C]  output Along(x, T = T, N = C) + Along(x, T = C) }
    """,
    x=(4, 5),
)
def the_axes_that_a_call_names(x: Tensor) -> Tensor:
    return layer_norm(x.T, (4,)).T + layer_norm(x, (5,))


@references(
    """
    norm Groups { input x[N, C, *S]  reduce *S }
    norm Spread { input x[N, C, H, W]  output Groups(x, S = (H, W)) }
    """,
    x=(2, 3, 4, 5),
)
def a_group_of_axes(x: Tensor) -> Tensor:
    return group_norm(x, 3)


@references(
    """
    norm Parts { input x[N, C], h[N, C]
      let m = mean(x over C)
      output y = x - m, h = h * m, m }
    norm All { input x[N, C], h[N, C]
      let r = Parts(x, h)
      output r + r.h + r.m, own = r.y }
    """,
    x=(4, 5),
    h=(4, 5),
)
def all_outputs(x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
    m = x.mean(1, keepdim=True)
    return x - m + h * m + m, x - m


@references(
    """
    norm Four { input x[N, C, T], keep: mask[N, T] = true, trust[N, T] = -2, other[N, C, T] = x
      output mean(x over T where keep) * trust + other }
    norm ByName { input x[N, C, T], keep: mask[N, T], t[T, N], h[N, C, T]
      let some = Four(x, other = h, trust = t)
      let again = some(trust = t, x = 2 * x, keep = keep)
      output some + 3 * again }
    """,
    x=(2, 4, 3),
    keep=KEEP,
    t=(3, 2),
    h=(2, 4, 3),
)
def inputs_by_name(x: Tensor, keep: Tensor, t: Tensor, h: Tensor) -> Tensor:
    def four(x: Tensor, keep: Tensor, other: Tensor) -> Tensor:
        mean = torch.where(keep[:, None], x, 0).sum(2) / keep.sum(1)[:, None]
        return mean[..., None] * t.T[:, None] + other

    some = four(x, torch.ones_like(keep), h)
    return some + 3 * four(2 * x, keep, 2 * x)


@references(
    """
    norm Grouped { input x[V, C], batch: index[V], w[V] = 1
      output x - mean(x over V: batch weight w) }
    norm NamedIndex { input x[V, C], label: index[V], w[V]
      let a = Grouped(w = w, x = x)
      output a + Grouped(x, w = w^2, batch = label) }
    """,
    x=(5, 3),
    label=LABEL,
    w=torch.tensor([1.0, 0.5, 2.0, 0.25, 3.0], dtype=F64),
)
def an_index_by_name(x: Tensor, label: Tensor, w: Tensor) -> Tensor:
    whole = (w[:, None] * x).sum(0) / w.sum()
    sums = x.new_zeros(3, 4).index_add(0, label, w[:, None] ** 2 * torch.cat([x, x[:, :1] ** 0], 1))
    return x - whole + x - (sums[:, :3] / sums[:, 3:])[label]


@references(
    """
    norm Masked { input x[N, C, T], keep: mask[N, T] = true, trust[N, T] = -2, other[N, C, T] = x
      output mean(x over T where keep) * trust + other }
    norm LeftOut { input x[N, C, T], keep: mask[N, T]
      let some = Masked(x, keep)
      output Masked(x) - 3 * some }
    """,
    x=(2, 4, 3),
    keep=KEEP,
)
def inputs_that_are_left_out(x: Tensor, keep: Tensor) -> Tensor:
    counted = keep[:, None].to(F64)
    some = (x * counted).sum(2, keepdim=True) / counted.sum(2, keepdim=True)
    return -2 * x.mean(2, keepdim=True) + x - 3 * (-2 * some + x)


@references(
    """
    norm ByGroup { input x[V, C], batch: index[V]  output x - mean(x over V: batch) }
    norm ByRow { input x[V, C = c], kind: index[V] of R = rows  param w[R, C] = 1
      output x * w[kind] }
    norm Around { input x[V, C], e: edges[V]  output mean(x over V: e) }
    norm Handed { input x[V, C = c], label: index[V] of K = 3, near: edges[V]
      output ByGroup(x) + ByGroup(x, label) + ByRow(x, label) + Around(x, near) }
    """,
    {"c": 2},
    x=(5, 2),
    label=LABEL,
    near=torch.tensor([[0, 1, 2, 4], [1, 2, 2, 0]]),
    torch_only="neighbours in a graph, whose pools overlap",
)
def what_only_pools(x: Tensor, label: Tensor, near: Tensor, by_row_w: Tensor) -> Tensor:
    means = torch.stack([x[label == k].mean(0) for k in range(3)])[label]
    around = torch.stack([
        x[near[0][near[1] == v]].mean(0) if (near[1] == v).any() else torch.zeros_like(x[0])
        for v in range(5)
    ])  # fmt: skip
    return x - x.mean(0) + x - means + x * by_row_w[label] + around


@references(
    """
    norm Learned(eps = 1e-6) { input x[*B, D = dim]
      param gain = 1
      output affine(gain * x / sqrt(mean(x^2 over D) + eps) per weight[D]) }
    norm Twice(eps = 1e-6) { input x[*B, D = dim]
      let y = Learned(x, eps = 2 * eps)
      output y + Learned(tanh(y)) }
    norm Shared { input q[N, T, D = dim], k[N, S, D]
      let p = Learned(q)
      let t = Twice(q)
      output p + t + Learned(q), k = p(k) + t(k) * p(p(k)) }
    """,
    {"dim": 4},
    q=(2, 3, 4),
    k=(2, 5, 4),
)
def shared_parameters(
    q: Tensor, k: Tensor, p_gain: Tensor, p_weight: Tensor, t_y_gain: Tensor, t_y_weight: Tensor,
    t_learned_gain: Tensor, t_learned_weight: Tensor, learned_gain: Tensor, learned_weight: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    def learned(x: Tensor, gain: Tensor, weight: Tensor, eps: float = 1e-6) -> Tensor:
        return gain * rms_norm(x, (4,), eps=eps) * weight

    def p(x: Tensor) -> Tensor:
        return learned(x, p_gain, p_weight)

    def t(x: Tensor) -> Tensor:
        y = learned(x, t_y_gain, t_y_weight, 2e-6)
        return y + learned(torch.tanh(y), t_learned_gain, t_learned_weight)

    return p(q) + t(q) + learned(q, learned_gain, learned_weight), p(k) + t(k) * p(p(k))


@references(
    """
    norm Last { input x[*B, F = dim]  affine weight[F] }
    norm Beside { input x[N, D = dim], k[T, D, H, E = last]
      output x, k = Last(2 * k) }
    """,
    {"dim": 2, "last": 3},
    x=(4, 2),
    k=(5, 2, 6, 3),
)
def the_order_of_a_value(x: Tensor, k: Tensor, last_weight: Tensor) -> tuple[Tensor, Tensor]:
    """Not that in which axes are introduced: N, D, T, ..."""
    return x, 2 * k * last_weight


@references(
    """
    norm Whole { input x[N, C = c]  reduce N  track 0.1  affine C }
    norm Bare { input x[N, C = c]  output Whole(x, affine = false, track = false) }
    """,
    {"c": 4},
    x=(5, 4),
)
def switches(x: Tensor) -> Tensor:
    return (x - x.mean(0)) / torch.sqrt(x.var(0, correction=0) + 1e-5)


@references(
    """
    norm Learning { input x[*B, *D = shape]  reduce *D  affine *D }
    norm AnyLength { input x[N, T, C]  output Learning(x, D = (T, C), affine = false) }
    """,
    x=(3, 5, 4),
)
def what_is_left_out_asks_for_no_length(x: Tensor) -> Tensor:
    centred = x - x.mean((1, 2), keepdim=True)
    return centred / torch.sqrt(x.var((1, 2), correction=0, keepdim=True) + 1e-5)


@references(
    """
    norm Kept { input x[N, C = c]  let seen = mean(x over N track 0.1)  output affine(x - seen per C) }
    norm Wrapped { input x[N, C = c]  let inner = Kept(x)  output inner + 1 }
    norm Outside { input x[N, C = c]  output Wrapped(x, track = false) }
    """,
    {"c": 4},
    x=(5, 4),
)
def switches_of_what_is_called_by_a_called_norm(
    x: Tensor, inner_weight: Tensor, inner_bias: Tensor
) -> Tensor:
    """It keeps nothing: the state has no running mean."""
    return inner_weight * (x - x.mean(0)) + inner_bias + 1


@TARGETS
@pytest.mark.parametrize("name", references.names())
def test_reference(name: str, target: str) -> None:
    references.check(name, target)


def test_shared_parameters_are_one_set() -> None:
    module = references.module.Shared(4)
    assert isinstance(module.p_weight, nn.Parameter)
    assert len(list(module.parameters())) == 8
