"""Values that kernels round on the way: to the bit as torch does, and gradients like its own."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from metanorm import loads, runtime

SPEC = """
norm Like { input x[N, C], h[N, C]  output cast(x like h), h = 0 * h }
norm Fixed { input x[N, C]
  output cast(x as float32), half = cast(x as float16), bfloat = cast(x as bfloat16) }
norm Narrow { input x[N, C], h[N] = 1
  let size = cast(mean(x^2 over C) like h)
  output x * size, size = cast(size as bfloat16) }
norm Scaled { input x[N, C = c]  param w[C] = 1, v[C] = 1
  let y = cast(x * w like v)
  output y * mean(y over C) + cast(w * v) }
norm Masked { input x[N, C], keep: mask[N, C]
  output x - mean(cast(x / 3 as bfloat16) over C where keep) }
"""
REALS = pytest.mark.parametrize("real", [torch.float32, torch.float64], ids=str)
KINDS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TO = pytest.mark.parametrize("to", KINDS, ids=str)
HALVES = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)
FROM = pytest.mark.parametrize("dtype", KINDS, ids=str)


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


def numbers(real: torch.dtype) -> Tensor:
    """Every bit pattern of a bfloat16 and of a half, what lies between two of them, and beyond."""
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16)
    known = torch.cat([bits.view(t).float() for t in (torch.bfloat16, torch.float16)])
    above = (known.view(torch.int32) + 1).view(torch.float32)
    below = (known.view(torch.int32) - 1).view(torch.float32)
    ties = torch.cat([(known.view(torch.int32) + (1 << k)).view(torch.float32) for k in (12, 15)])
    torch.manual_seed(0)
    actual = torch.cat([known, above, below, ties, torch.randn(1 << 16)]).to(real)
    if real == torch.float64:  # which float32 cannot tell apart, or does not hold
        actual = torch.cat([actual, actual * (1 + 2**-40), actual * 1e40])
    return actual[: actual.numel() // 8 * 8].view(-1, 8)


def same(actual: Tensor, right: Tensor) -> None:
    """Bit by bit, but for what a NaN carries."""
    assert actual.dtype == right.dtype and actual.shape == right.shape
    nan = right.isnan()
    assert torch.equal(actual.isnan(), nan)
    assert torch.equal(actual[~nan].signbit(), right[~nan].signbit())
    assert torch.equal(actual[~nan], right[~nan])


@REALS
@TO
def test_every_number_is_rounded_as_torch_does(
    norms: ModuleType, real: torch.dtype, to: torch.dtype
) -> None:
    x = numbers(real)
    with runtime.use("native"):
        actual = norms.Like()(x, torch.zeros_like(x, dtype=to))[0]
        fixed = norms.Fixed()(x)
    same(actual, x.to(to).to(real))
    for y, dtype in zip(fixed, (torch.float32, torch.float16, torch.bfloat16)):
        same(y, x.to(dtype).to(real))


@FROM
@TO
def test_cells_are_rounded(norms: ModuleType, dtype: torch.dtype, to: torch.dtype) -> None:
    torch.manual_seed(0)
    x, h = torch.randn(5, 16).to(dtype), torch.zeros(5, dtype=to)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    with runtime.use("native"):
        y, size = norms.Narrow()(x, h)
    rounded = x.to(real).square().mean(1).to(to).to(real)
    eps = torch.finfo(to if to.itemsize < dtype.itemsize else dtype).eps
    torch.testing.assert_close(y, (x.to(real) * rounded[:, None]).to(dtype), rtol=2 * eps, atol=0)
    close = rounded.bfloat16().to(dtype)  # and this one to bfloat16 in any case
    torch.testing.assert_close(size, close, rtol=max(2 * eps, 2**-7), atol=0)


@FROM
@TO
@pytest.mark.parametrize("threads", [1, 2])
def test_gradients_are_rounded_as_those_of_torch(
    norms: ModuleType, dtype: torch.dtype, to: torch.dtype, threads: int
) -> None:
    torch.manual_seed(0)
    norm = norms.Scaled(33)
    norm.w.data = torch.randn(33)
    norm.v.data = torch.randn(33).to(to)
    x = torch.randn(70, 33).to(dtype).requires_grad_()
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with runtime.use("native"):
            y = norm(x)
            d = torch.randn_like(y)
            gradients = torch.autograd.grad(y, (x, norm.w, norm.v), d)
    finally:
        torch.set_num_threads(before)
    real = torch.float64 if dtype == torch.float64 else torch.float32
    wide = x.detach().to(real).requires_grad_()
    w, v = (p.detach().to(real).requires_grad_() for p in (norm.w, norm.v))
    z = (wide * w).to(to).to(real)
    right = z * z.mean(1, keepdim=True) + (w * v).to(dtype).to(real)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(y, right.to(dtype), rtol=8 * eps, atol=8 * eps)
    expected = torch.autograd.grad(right, (wide, w, v), d.to(real))
    # A sum that comes out otherwise in the last bit may be rounded to the neighbour.
    eps = max(torch.finfo(t).eps for t in (to, dtype, torch.float32 if real != dtype else dtype))
    for g, e in zip(gradients, expected):
        torch.testing.assert_close(g, e.to(g.dtype), rtol=8 * eps, atol=16 * eps)


@HALVES
@pytest.mark.parametrize("rows", [1, 300])
def test_sums_without_rounding_leave_no_doubt(half: torch.dtype, rows: int) -> None:
    """Where no sum has to be rounded, LlamaRMSNorm and its gradient of the weight are those of
    transformers bit by bit."""
    from conftest import ROOT

    torch.manual_seed(0)
    norm = loads((ROOT / "specs" / "llm_norm.norm").read_text(encoding="utf-8")).LlamaRMSNorm(64)
    norm.to(half)
    norm.weight.data = torch.randn(64).to(half)
    x = torch.randint(-8, 9, (rows, 64)).to(half).requires_grad_()
    d = torch.zeros(rows, 64).to(half)
    d[0] = torch.randn(64).to(half)
    with runtime.use("native"):
        y = norm(x)
        gradients = torch.autograd.grad(y, (x, norm.weight), d)
    wide = x.float()
    normed = (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)).to(half)
    right = norm.weight * normed
    same(y, right.detach())
    expected = torch.autograd.grad(right, (x, norm.weight), d)
    same(gradients[1], expected[1])
    eps = torch.finfo(half).eps
    torch.testing.assert_close(gradients[0], expected[0], rtol=eps, atol=eps / 8)


@pytest.mark.parametrize("shape", [(0, 8), (3, 0), (1, 1), (2, 5000)])
def test_odd_shapes(norms: ModuleType, shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x = torch.randn(shape).bfloat16().requires_grad_()
    keep = torch.rand(shape) > 0.5
    results = []
    for target in ("native", "torch") if x.numel() else ("torch", "torch"):
        with runtime.use(target):
            y = norms.Masked()(x, keep)
            results.append((y.detach(), *torch.autograd.grad(y.float().sum(), x)))
    for kernel, plain in zip(*results):
        torch.testing.assert_close(kernel, plain, rtol=2**-7, atol=2**-7)


def test_rows_with_gaps(norms: ModuleType) -> None:
    x = torch.randn(9, 40)[:, 3:20].t()
    with runtime.use("native"):
        same(norms.Fixed()(x).bfloat, x.bfloat16().float())


@pytest.mark.parametrize("decay", [0.99999, 1 - 1e-7])
def test_numbers_of_a_call_are_computed_in_double_precision(decay: float) -> None:
    """In float, `1 - 0.99999` is off by a thousandth, and `1 - (1 - 1e-7)` by a fifth."""
    norm = loads("""norm A(decay = 0.9) { input x[N, C]
      output (1 - decay) * x / (3 * 0.1 * (1 - decay)) + (1 - decay) * mean(x over C) }""").A(decay)
    x = torch.randn(4, 5, generator=torch.Generator().manual_seed(0))
    right = x.double() / 0.3 + (1 - decay) * x.double().mean(1, keepdim=True)
    with runtime.use("native"):
        torch.testing.assert_close(norm(x).double(), right, rtol=2e-6, atol=1e-7)
    mean = loads(
        "norm B(decay = 0.9) { input x[N, C] output x - x + (1 - decay) * mean(x over C) }"
    )
    with runtime.use("native"):
        actual = mean.B(decay)(x).double()
    wanted = ((1 - decay) * x.double().mean(1, keepdim=True)).expand_as(x)
    torch.testing.assert_close(actual, wanted, rtol=1e-5, atol=0.0)
