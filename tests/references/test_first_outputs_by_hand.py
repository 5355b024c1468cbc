"""Norms whose first output has other axes than their first input, by hand in plain torch."""

from __future__ import annotations

from itertools import pairwise
from types import ModuleType

import pytest
import torch
from by_hand import References
from torch import Tensor, nn
from torch.nn import functional as F

from metanorm import loads, runtime
from metanorm.runtime.targets import Target

F64 = torch.float64
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
LABELS = torch.tensor([0, 2, 0, 2, 4, 2])  # groups 1 and 3 are empty
OFFSETS = torch.tensor([0, 2, 2, 5, 6])
PRODUCTS = "matrix products"
references = References()


@references(
    "norm Scores(eps = 1e-6) { input q[B, H, T, D], k[B, H, S, D]  param gain[H = heads] = 1  "
    "let scores[B, H, T, S] = gain * sum(q * rsqrt(mean(q^2 over D) + eps) * k over D)  "
    "output scores }",
    {"heads": 2},
    torch_only=PRODUCTS,
    q=(3, 2, 4, 5),
    k=(3, 2, 6, 5),
)
def scores(q: Tensor, k: Tensor, gain: Tensor) -> Tensor:
    normed = q / (q.square().mean(-1, keepdim=True) + 1e-6).sqrt()
    return gain[:, None, None] * normed @ k.mT


@references(
    "norm Demodulated(eps = 1e-8) { input style[N, I], weight[O, I, *K]  let m = weight * style  "
    "let w[N, O, I, *K] = m * rsqrt(sum(m^2 over I, *K) + eps)  output w }",
    torch_only=PRODUCTS,
    style=(2, 3),
    weight=(4, 3, 2, 5),
)
def demodulated(style: Tensor, weight: Tensor) -> Tensor:
    w = weight[None] * style[:, None, :, None, None]
    return w * (w.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()


@references(
    "norm Pooled(eps = 1e-5) { input x[N, C, *S]  param weight[C = channels] = 1  "
    "let y = normalize(x over C, *S)  let p[C, N] = weight * max(y over *S)  output p }",
    {"channels": 3},
    x=(2, 3, 4, 5),
)
def pooled(x: Tensor, weight: Tensor) -> Tensor:
    return (weight * F.layer_norm(x, x.shape[1:]).amax((2, 3))).T


@references(
    "norm Turned(eps = 1e-5) { input x[N, C, *S]  let y[N, *S, C] = affine(normalize(x over C) per C)  "
    "output y, mean = mean(x over C) }",
    {"c": 3},
    x=(2, 3, 4, 5),
)
def turned(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    return F.layer_norm(x.movedim(1, -1), (3,), weight, bias), x.mean(1)


@references(
    "norm Readout(eps = 1e-5) { input x[V, C], batch: index[V]  "
    "let y = normalize(x over V: batch)  output cells(mean(y^3 over V: batch)), y }",
    x=(6, 3),
    batch=LABELS,
)
def readout(x: Tensor, batch: Tensor) -> tuple[Tensor, Tensor]:
    y, skewness = torch.zeros_like(x), x.new_zeros(5, x.shape[1])
    for group in (0, 2, 4):
        is_member = torch.eq(batch, group)[:, None]
        part = x[is_member[:, 0]]
        normed = (part - part.mean(0)) / (part.var(0, correction=0) + 1e-5).sqrt()
        y = y.masked_scatter(is_member, normed)
        skewness = skewness.index_put((torch.tensor([group]),), normed.pow(3).mean(0)[None])
    return skewness, y


@references(
    "norm Segments { input x[T, C], cu: offsets[T]  output cells(rms(x over T: cu, C)) }",
    x=(6, 3),
    cu=OFFSETS,
)
def segments(x: Tensor, cu: Tensor) -> Tensor:
    parts = [x[a:b] for a, b in pairwise(cu.tolist())]
    return torch.stack([p.square().mean().sqrt() if len(p) else x.new_zeros(()) for p in parts])


@references(
    "norm Blocks(g: int) { input x[N, C, *S]  output cells(mean(abs(x) over C: blocks(g), *S)) }",
    {"g": 2},
    x=(2, 6, 4),
)
def blocks(x: Tensor) -> Tensor:
    return x.abs().unflatten(1, (2, 3)).mean((2, 3))


@references(
    "norm Tracked(momentum = 0.1) { input x[N, C = c, *S]  "
    "let y[N, C] = mean((x - mean(x over N, *S track momentum))^2 over *S)  output y }",
    {"c": 3},
    x=(2, 3, 4),
)
def tracked(x: Tensor, training: bool) -> Tensor:
    first = x.mean((0, 2), keepdim=True)
    centre = first if training else 0.1 * first.detach()
    return (x - centre).square().mean(2)


@references(
    "norm Wider { input x[N, C]  param w[C, K = classes] = 1  "
    "let y[N, C, K] = normalize(x over C) * w  output y }",
    {"c": 4, "classes": 3},
    torch_only=PRODUCTS,
    x=(2, 4),
)
def wider(x: Tensor, w: Tensor) -> Tensor:
    return F.layer_norm(x, (4,))[..., None] * w


@references(
    "norm Cosines { input q[B, T, D], k[B, S, D]  "
    "let c[B, T, S] = sum(q * k over D) / (l2(q over D) * l2(k over D))  output c }  "
    "norm Attended { input x[B, T, D], context[B, S, D]  "
    "let c = Cosines(x, context)  output x + sum(softmax(c over S) * context over S) }",
    torch_only=PRODUCTS,
    x=(2, 3, 4),
    context=(2, 5, 4),
)
def attended(x: Tensor, context: Tensor) -> Tensor:
    cosines = F.normalize(x, dim=-1) @ F.normalize(context, dim=-1).mT
    return x + cosines.softmax(-1) @ context


@references(
    "norm Alike { input k[B, S, D], q[B, T, D]  output Cosines(q, k) }",
    torch_only=PRODUCTS,
    k=(2, 5, 4),
    q=(2, 3, 4),
)
def alike(k: Tensor, q: Tensor) -> Tensor:
    return F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).mT


@references(
    "norm Whole(eps = 1e-5) { input x[N, C, *S]  let y[*S, C, N] = normalize(x over C)  output y }  "
    "norm TurnedByCall { input z[A, B, H, W]  output Whole(z) }",
    z=(2, 3, 4, 5),
)
def turned_by_call(z: Tensor) -> Tensor:
    return F.layer_norm(z.movedim(1, -1), (3,)).permute(1, 2, 3, 0)


@references(
    "norm RowsOfNothing { input x[V, C], batch: index[V]  param bias[C = channels] = 1  "
    "let v = var(x over V: batch)  output cells(sqrt(v + bias^2)), rows = cells(v + bias), "
    "y = x * rsqrt(v + bias^2) }",
    {"channels": 3},
    x=(6, 3),
    batch=LABELS,
)
def rows_of_nothing(x: Tensor, batch: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Groups 1 and 3 are empty, and so what they return is made of the parameter alone."""
    groups = [x[torch.eq(batch, group)] for group in range(5)]
    var = [g.var(0, correction=0) if len(g) else torch.zeros_like(bias) for g in groups]
    v = torch.stack(var)
    return (v + bias**2).sqrt(), v + bias, x * (v + bias**2).rsqrt()[batch]


@TARGETS
@pytest.mark.parametrize("name", references.names())
def test_it_computes_what_is_written_by_hand(name: str, target: Target) -> None:
    references.check(name, target)


MORE = """
norm Both(eps = 1e-5) {
  input  x[N, C, *S], h[N, C]
  let    m = moments(x over *S)
  let    s[C, N] = m.var + h
  let    t[N, C] = h^2
  output s as float32, t, y = (x - m.mean) / sqrt(m.var + eps)
}
norm Other {
  input  x[N, C], w[O, K]
  let    r[K, O] = w^2
  output r, y = x - mean(x over C)
}
norm Alone {
  input  x[N, C], w[O, K]
  let    r[K, O] = w^2 + 0 * mean(x over N, C)
  let    y[O] = sum(w over K)
  output y, r
}
norm Kept {
  input  x[N, C]
  let    y[N, C] = x - mean(x over C)
  output y
  entry  summed(y[N, H, C]) { let s[H, N] = sum(y over C)  output s }
}
"""


@pytest.fixture(scope="module")
def more() -> ModuleType:
    return loads(MORE)


@TARGETS
def test_dtypes_and_other_outputs_stand_beside_it(more: ModuleType, target: Target) -> None:
    x, h = torch.randn(2, 3, 4).bfloat16(), torch.randn(2, 3).bfloat16()
    with runtime.use(target):
        s, t, y = more.Both()(x, h)
    assert (s.dtype, t.dtype, y.dtype) == (torch.float32, torch.bfloat16, torch.bfloat16)
    var = x.float().var(2, correction=0)
    torch.testing.assert_close(s, (var + h.float()).T)
    torch.testing.assert_close(t, h.float().square().bfloat16())
    assert s.shape == (3, 2) and y.shape == x.shape


@TARGETS
def test_an_input_without_elements_gives_its_shape(more: ModuleType, target: Target) -> None:
    with runtime.use(target):
        s, t, y = more.Both()(torch.randn(2, 3, 0), torch.ones(2, 3))
        assert s.shape == (3, 2) and s.dtype == torch.float32 and not s.any()
        assert t.eq(1).all() and y.shape == (2, 3, 0)
        w = torch.randn(4, 5, requires_grad=True)
        r, y = more.Other()(torch.randn(0, 3), w)
        torch.testing.assert_close(r, w.square().T)  # it does not depend on the input
        (gradient,) = torch.autograd.grad(r.sum(), w)
        torch.testing.assert_close(gradient, 2 * w)
        y, r = more.Alone()(torch.randn(0, 3), w)
        torch.testing.assert_close(y, w.sum(1))
        assert r.shape == (5, 4) and not r.any()


def test_an_entry_may_return_other_axes(more: ModuleType) -> None:
    y = torch.randn(2, 3, 4)
    torch.testing.assert_close(more.Kept().summed(y), y.sum(2).T)


def test_torch_compile_and_export_know_its_shape(more: ModuleType) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = more.Both()

        def forward(self, x: Tensor, h: Tensor) -> Tensor:
            return self.norm(x, h)[0] + 1

    x, h = torch.randn(2, 3, 4), torch.randn(2, 3)
    expected = Model()(x, h)
    batch = torch.export.Dim("batch")
    program = torch.export.export(
        Model(), (x, h), dynamic_shapes={"x": {0: batch}, "h": {0: batch}}
    )
    torch.testing.assert_close(program.module()(x, h), expected)
    longer = torch.randn(5, 3, 4), torch.randn(5, 3)
    torch.testing.assert_close(program.module()(*longer), Model()(*longer))
    compiled = torch.compile(Model(), backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, h), expected)


def test_channels_last_and_vmap_agree() -> None:
    norm = references.module.Pooled(3, dtype=F64)
    x = torch.randn(2, 3, 4, 5, dtype=F64)
    expected = norm(x)
    torch.testing.assert_close(norm(x.contiguous(memory_format=torch.channels_last)), expected)
    torch.testing.assert_close(torch.vmap(norm)(torch.stack([x, -x]))[0], expected)
    for out, into in ((norm, x), (references.module.Turned(3, dtype=F64), x)):
        tangent = torch.func.jvp(out, (into,), (torch.ones_like(into),))[1]
        shapes = [t.shape for t in (tangent if isinstance(tangent, tuple) else (tangent,))]
        assert shapes[0] == (out(into)[0] if isinstance(tangent, tuple) else out(into)).shape


STATED = """
norm StatedPooled {
  input  x[N, C]
  let    y[N] = mean(x over C)
  output y
  backward { gradient x = grad * x }
}
norm StatedTurned {
  input  x[N, C = c]
  buffer seen[C] = 0
  let    y[C, N] = 2 * x
  output y
  backward {
    gradient x = grad * x
    update   seen = sum(grad over N)
  }
}
norm StatedRows {
  input  x[V, C], batch: index[V]
  output cells(sum(x over V: batch))
  backward { gradient x = 3 * grad + 0 * x }
}
"""


@pytest.fixture(scope="module")
def stated() -> ModuleType:
    return loads(STATED)


@TARGETS
@pytest.mark.parametrize("rows", [3, 2])
def test_a_stated_backward_pass_gets_a_gradient_shaped_as_the_output(
    stated: ModuleType, target: Target, rows: int
) -> None:
    x = torch.randn(rows, 3, dtype=F64, requires_grad=True)
    batch = torch.arange(rows) * 2
    with runtime.use(target):
        pooled_gradient, turned_gradient = (
            torch.randn(rows, dtype=F64),
            torch.randn(3, rows, dtype=F64),
        )
        (gradient,) = torch.autograd.grad(stated.StatedPooled()(x), x, pooled_gradient)
        torch.testing.assert_close(gradient, pooled_gradient[:, None] * x)
        norm = stated.StatedTurned(3).double()
        (gradient,) = torch.autograd.grad(norm(x), x, turned_gradient)
        torch.testing.assert_close(gradient, turned_gradient.T * x)
        torch.testing.assert_close(norm.seen, turned_gradient.sum(1))
        y = stated.StatedRows()(x, batch)
        row_gradient = torch.randn_like(y)
        (gradient,) = torch.autograd.grad(y, x, row_gradient)
        torch.testing.assert_close(gradient, 3 * row_gradient[batch])
