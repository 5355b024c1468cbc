"""Windows and pasts of what is as large as the data, along any axis, against dense matrices."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest
import torch
from layers import F64, channels_last, everything, kernels_counted, strided, transposed, use
from torch import Tensor, nn

import metanorm

AXES = ("N", "C", "H", "W")
SHAPE = {"C": (2, 19, 3, 5), "H": (2, 3, 19, 4), "W": (3, 2, 18, 7)}
POOLS = {
    "truncate": "window(w)",
    "zero": "window(w, edge = zero)",
    "replicate": "window(w, edge = replicate)",
    "few": "causal(w)",
    "all": "causal",
}
WEIGHTS = ("", "where keep", "weight heavy", "weight light")
QUICK = [
    ("C", "zero", ""), ("C", "few", "weight heavy"), ("H", "truncate", "where keep"),
    ("H", "all", ""), ("W", "replicate", "weight light"), ("W", "truncate", ""),
]  # fmt: skip


def norm(axis: str, pool: str, weights: str) -> type[nn.Module]:
    """Everything that scans find along an axis, and then a scan of what depends on them."""
    near = f"{axis}: {POOLS[pool]}"
    module = metanorm.loads(f"""
norm Near(w: int) {{
  input  x[N, C, H, W], keep: mask[N, C, H, W], heavy[N, C, H, W], light[{axis}]
  let    m = moments(x over {near} {weights})
  let    y = (x - m.mean) / sqrt(m.var + 0.1)
  output y + 0.1 * sum(x * y over {near} {weights})
}}
""")
    actual: type[nn.Module] = module.Near
    return actual


def dense(pool: str, width: int, length: int) -> tuple[Tensor, Tensor]:
    """How often each position is in each pool, [pools, positions], and how many zeros are."""
    counted, zeros = torch.zeros(length, length, dtype=F64), torch.zeros(length, dtype=F64)
    for row in range(length):
        first, last = row - width // 2, row + (width - 1) // 2
        if pool in ("few", "all"):
            first, last = row - (width - 1 if pool == "few" else length), row
        for column in range(first, last + 1):
            if 0 <= column < length:
                counted[row, column] += 1
            elif pool == "replicate":
                counted[row, min(max(column, 0), length - 1)] += 1
            elif pool == "zero":
                zeros[row] += 1
    return counted, zeros


def right(x: Tensor, weight: Tensor | None, dim: int, pool: str, width: int) -> Tensor:
    """The same as plain sums over [..., pools, positions]."""
    x = x.movedim(dim, -1)
    counted, zeros = dense(pool, width, x.shape[-1])
    if weight is None:
        entries = counted.expand(*x.shape, -1)
    else:
        entries = counted * weight.movedim(dim, -1)[..., None, :]
        zeros = torch.zeros_like(zeros)
    total = entries.sum(-1) + zeros

    def mean(values: Tensor) -> Tensor:
        return torch.where(total != 0, (entries * values).sum(-1), 0) / torch.where(
            total != 0, total, 1
        )

    centre = mean(x[..., None, :])
    beyond = zeros / total.clamp_min(1) * centre.square()
    var = mean((x[..., None, :] - centre[..., None]).square()) + beyond
    y = (x - centre) / (var + 0.1).sqrt()
    return (y + 0.1 * (entries * (x * y)[..., None, :]).sum(-1)).movedim(-1, dim)


@pytest.mark.parametrize("memory", [torch.clone, channels_last])
@pytest.mark.parametrize(
    ("axis", "pool", "weights"),
    [
        pytest.param(a, p, w, marks=[] if (a, p, w) in QUICK else [pytest.mark.extended])
        for a in SHAPE
        for p in POOLS
        for w in WEIGHTS
    ],
)
def test_scans_are_sums_over_dense_matrices(
    axis: str, pool: str, weights: str, memory: Callable[[Tensor], Tensor]
) -> None:
    shape, dim = SHAPE[axis], AXES.index(axis)
    actual = norm(axis, pool, weights)
    for width in (1, 2, 5, 4 * shape[dim]) if pool != "all" else (1,):
        x = memory(torch.randn(shape, dtype=F64) + 1).requires_grad_()
        keep = torch.rand(shape) > 0.3
        heavy, light = torch.rand(shape, dtype=F64), torch.rand(shape[dim], dtype=F64)
        heavy[0, 1:] *= heavy[0, 1:] > 0.5
        light[:3] = 0
        heavy.requires_grad_(), light.requires_grad_()
        along = [-1 if d == dim else 1 for d in range(4)]
        weight = {
            "": None, "where keep": keep.to(F64), "weight heavy": heavy,
            "weight light": light.view(along).expand(shape),
        }[weights]  # fmt: skip
        with use("native"), kernels_counted() as counted:
            y = actual(width)(x, keep, heavy, light)
            wanted = right(x, weight, dim, pool, width)
            torch.testing.assert_close(y, wanted, rtol=1e-9, atol=1e-9)
            seed = torch.randn_like(y)
            by = (x, *(t for name, t in (("heavy", heavy), ("light", light)) if name in weights))
            gradients = torch.autograd.grad(y, by, seed)
        assert len(counted) == 2
        for ours, theirs in zip(gradients, torch.autograd.grad(wanted, by, seed)):
            torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


NORMS = {
    "along two axes": (
        """norm Contrast(eps = 0.1) {
  input  x[N, C, H, W]
  reduce H: window(3), W: window(4, edge = replicate)
  affine C
}""",
        (2, 3, 7, 18),
    ),
    "statistics of what was scanned": (
        """norm Scanned(w: int = 3) {
  input  x[N, C = num_channels, H, W]
  let    y = x / sqrt(1 + mean(x^2 over C: window(w)))
  let    z = y - mean(y over C)
  output affine(z / sqrt(var(z over H, W) + 0.1) + max(y over N, H, W) per C)
}""",
        (2, 17, 3, 6),
    ),
    "of statistics": (
        """norm Late(w: int = 3) {
  input  x[N, C, *S]
  reduce C, *S
  let    y = x
  output y / (1 + mean(y^2 over C: causal(w)))
}""",
        (4, 7, 5, 8),
    ),
    "beside rows of graphs": (
        """norm Rows(w: int = 3) {
  input  x[V, C], batch: index[V]
  let    y = x - mean(x over V: batch)
  output y / sqrt(1 + mean(y^2 over C: window(w)))
}""",
        (40, 9),
    ),
    "past the innermost axis": (
        "norm Past() {\n  input  x[N, C, T]\n  output x / sqrt(1 + mean(x^2 over T: causal))\n}",
        (3, 4, 50),
    ),
}


@pytest.mark.parametrize("name", NORMS)
def test_kernels_and_torch_agree(name: str) -> None:
    """In all layouts, by one thread and by several, of data with nothing in it too."""
    text, shape = NORMS[name]
    loaded = metanorm.loads(text)
    arguments = (shape[1],) if "num_channels" in text or "affine" in text else ()
    module = getattr(loaded, loaded.__all__[0])(*arguments).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.uniform_(0.5, 1.5)
    others = {"batch": torch.arange(shape[0]) % 3} if "batch" in text else {}
    for odd in (torch.clone, channels_last, strided, transposed):
        x = odd(torch.randn(shape, dtype=F64) + 1)
        wanted = everything("torch", module, x, others, dy=torch.sin)
        for key, tensor in everything("native", module, x, others, dy=torch.sin).items():
            torch.testing.assert_close(tensor, wanted[key], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 40, 300), (16, 24, 9, 11), (1, 3, 30000)])
@pytest.mark.parametrize("name", ["LocalResponseNorm", "LocalResponseSum"])
def test_all_threads_scan(name: str, shape: tuple[int, ...], library: ModuleType) -> None:
    module = getattr(library, name)(5)
    x = torch.randn(shape)
    before = torch.get_num_threads()
    results = []
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        results.append(everything("native", module, x, dy=torch.sin))
    torch.set_num_threads(before)
    for other in results[1:]:
        for key, tensor in other.items():
            torch.testing.assert_close(tensor, results[0][key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1, 4, 5, 9])
def test_local_response_norm_is_that_of_torch(
    size: int, dtype: torch.dtype, library: ModuleType
) -> None:
    for odd in (torch.clone, channels_last, strided, transposed):
        x = odd(torch.randn(3, 7, 6, 5, dtype=dtype) * 3)
        ours, theirs = library.LocalResponseNorm(size, 0.5), nn.LocalResponseNorm(size, 0.5)
        actual = everything("native", ours, x, dy=torch.sin)
        x = x.double().detach().requires_grad_()
        y = theirs(x)
        (gradient,) = torch.autograd.grad(y, x, torch.sin(actual["output 0"]).double())
        close = {torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}[dtype]
        torch.testing.assert_close(actual["output 0"].double(), y, rtol=close, atol=close)
        torch.testing.assert_close(
            actual["gradient of x"].double(), gradient, rtol=close, atol=close
        )


def test_nothing_to_scan(library: ModuleType) -> None:
    with use("native"):
        for empty in ((0, 3, 4), (2, 0, 4), (2, 3, 0)):
            x = torch.empty(empty, dtype=F64, requires_grad=True)
            library.LocalResponseNorm(3)(x).sum().backward()
            assert x.grad is not None and x.grad.shape == empty
