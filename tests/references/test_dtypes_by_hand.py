"""Dtypes of outputs and of what is rounded on the way, by hand in plain torch, to the bit."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from comparing import programs_of, route_of
from torch import Tensor

from metanorm import loads, runtime

SPEC = """
use "llm_norm.norm"
norm Rounded { input x[N, C = c], h[N, C] = 1  param w[C] = 1
  output w * cast(x / 3) + cast(x / 7 like h) + cast(x / 5 as float16) }
norm Outputs { input x[N, C], h[N, C]
  output y = x + h as float32, h = h / 3, same = x / 3 like h, small = h / 3 as float8_e5m2 }
norm Optional { input x[N, C = c], h[N, C] = 2
  output affine(x / 3 per weight[C]), twin = x / 3 like h, own = x }
norm Quantized { input x[N, C]
  let scale = max(abs(x) over C) / 448
  output q = x / scale as float8_e4m3fn, scale as float32 }
norm Steps { input x[N, C]  let y = x
  repeat 3 { y = cast(y / 3) }
  output y }
norm Masked { input x[N, C], keep: mask[N]
  output cast(x / 3) * keep, count = cast(sum(keep over N) / 7) as float32 }
"""
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])
HALF = pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=str)


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return loads(SPEC)


@pytest.fixture(scope="module")
def library() -> ModuleType:
    from conftest import ROOT

    return loads((ROOT / "specs" / "llm_norm.norm").read_text(encoding="utf-8"))


def same(actual: Tensor, right: Tensor) -> None:
    assert actual.dtype == right.dtype
    assert torch.equal(actual.float(), right.float())


def close(actual: Tensor, right: Tensor) -> None:
    """But for sums in another order, which cost the last bit."""
    eps = torch.finfo(right.dtype).eps
    torch.testing.assert_close(actual, right, rtol=2 * eps, atol=eps**2)


def stretched(x: Tensor, eps: float) -> Tensor:
    """As the classes of transformers do it, in float32."""
    x = x.float()
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


@TARGETS
@HALF
def test_what_is_rounded(norms: ModuleType, half: torch.dtype, target: str) -> None:
    torch.manual_seed(0)
    norm = norms.Rounded(5, dtype=half)
    x, h = torch.randn(4, 5).to(half), torch.randn(4, 5)
    torch.nn.init.normal_(norm.w)
    with runtime.use(target):
        wide = x.float()
        parts = (wide / 3).to(half).float(), wide / 7, (wide / 5).half().float()
        close(norm(x, h), (norm.w.float() * parts[0] + parts[1] + parts[2]).to(half))
        parts = parts[0], (wide / 7).to(half).float(), parts[2]
        close(norm(x), (norm.w.float() * parts[0] + parts[1] + parts[2]).to(half))
        y = norms.Rounded(5)(h)  # float32: only one part is rounded
        torch.testing.assert_close(y, h / 3 + h / 7 + (h / 5).half().float())


@TARGETS
@HALF
def test_outputs(norms: ModuleType, half: torch.dtype, target: str) -> None:
    torch.manual_seed(0)
    x, h = torch.randn(4, 5).to(half), torch.randn(4, 5)
    with runtime.use(route_of(target, programs_of(SPEC)["Outputs"], "an output in eight bits")):
        actual = norms.Outputs()(x, h)
    same(actual.y, x.float() + h)
    close(actual.h, h / 3)
    close(actual.same, x.float() / 3)
    same(actual.small, (h / 3).to(torch.float8_e5m2))
    with runtime.use(target):
        norm = norms.Optional(5, dtype=half)
        for other, wanted in ((h, torch.float32), (None, half)):
            actual = norm(x, other)
            close(actual[0], (x.float() / 3).to(half))
            close(actual.twin, (x.float() / 3).to(wanted))
        empty = norm(x[:0], h[:0])
    assert [o.dtype for o in empty] == [half, torch.float32, half]


@TARGETS
def test_eight_bits(norms: ModuleType, target: str) -> None:
    torch.manual_seed(0)
    x = torch.randn(4, 5, requires_grad=True)
    with runtime.use(route_of(target, programs_of(SPEC)["Quantized"], "an output in eight bits")):
        q, scale = norms.Quantized()(x)
    wanted = x.abs().amax(1) / 448
    torch.testing.assert_close(scale, wanted)
    same(q, (x / scale[:, None]).to(torch.float8_e4m3fn))


@TARGETS
def test_loops_and_masks(norms: ModuleType, target: str) -> None:
    torch.manual_seed(0)
    x, keep = torch.randn(4, 5).bfloat16(), torch.tensor([True, False, True, True])
    y = x
    for _ in range(3):
        y = y / 3
    with runtime.use(route_of(target, programs_of(SPEC)["Steps"], "repeat")):
        same(norms.Steps()(x), y)
    with runtime.use(target):
        actual = norms.Masked()(x, keep)
        same(actual[0], (x / 3) * keep[:, None])
        same(actual.count, torch.tensor(3 / 7).bfloat16().float())


@TARGETS
@HALF
@pytest.mark.parametrize("name", ["LlamaRMSNorm", "GemmaRMSNorm", "T5LayerNorm"])
def test_norms_of_language_models(
    library: ModuleType, name: str, half: torch.dtype, target: str
) -> None:
    """Values and gradients are those of the classes in transformers, bit by bit."""
    torch.manual_seed(0)
    norm = getattr(library, name)(64, dtype=half)
    torch.nn.init.normal_(norm.weight)
    x = torch.randn(3, 7, 64).to(half).requires_grad_()
    twin, weight = x.detach().clone().requires_grad_(), norm.weight.detach().clone()
    weight.requires_grad_()
    with runtime.use(target):
        y = norm(x)
        cotangent = torch.randn_like(y)
        y.backward(cotangent)
    if name == "GemmaRMSNorm":
        right = (stretched(twin, 1e-6) * (1.0 + weight.float())).to(half)
    else:
        right = weight * stretched(twin, 1e-6).to(half)
    right.backward(cotangent)
    if name == "GemmaRMSNorm":  # a kernel may round the last bit otherwise
        torch.testing.assert_close(y, right, rtol=1e-2, atol=1e-2)
    else:
        same(y, right)
    torch.testing.assert_close(x.grad, twin.grad, rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(norm.weight.grad, weight.grad, rtol=2e-2, atol=2e-2)


@TARGETS
def test_a_weight_in_float32_decides_in_t5(library: ModuleType, target: str) -> None:
    torch.manual_seed(0)
    norm, x = library.T5LayerNorm(64), torch.randn(3, 64).bfloat16()
    torch.nn.init.normal_(norm.weight)
    with runtime.use(target):
        close(norm(x), norm.weight * stretched(x, 1e-6))


@TARGETS
def test_a_stream_keeps_its_dtype(library: ModuleType, target: str) -> None:
    torch.manual_seed(0)
    norm = library.AddRMSNorm(64)
    x, stream = torch.randn(3, 64).bfloat16(), (100 * torch.randn(3, 64)).requires_grad_()
    twin = stream.detach().clone().requires_grad_()
    with runtime.use(target):
        y, h = norm(x, stream)
        (y.float().sum() + h.sum()).backward()
    total = x.float() + twin
    right = torch.nn.functional.rms_norm(total, (64,), eps=1e-6)
    (right.bfloat16().float().sum() + total.sum()).backward()
    same(h, total)
    torch.testing.assert_close(y, right.bfloat16())
    torch.testing.assert_close(stream.grad, twin.grad)
