"""Whatever comes in as a tensor: wide enough, of the type of its sort, or refused in words."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime

SPECS = """
norm Given { input x[N, C], t[N, C]  output x + t^2 / (1 + t^2) }
norm Optional { input x[N, C], t[N, C] = 0.5  output x + t^2 / (1 + t^2) }
norm Other { input x[N, C], t[N, C] = x  output x + t^2 / (1 + t^2) }
norm Narrow { input x[N, C], t[C] = 2  output x + sum(t^2 over C) / (1 + sum(t^2 over C)) }
norm Weighed {
  input  x[N, C], t[N, C] = 1
  output x - sum(x over C weight t^2) / (1 + sum(t^2 over C))
}
norm Scaled { input x[N, C = c]  param p[C] = 300  output x + p^2 / (1 + p^2) }
norm Kept { input x[N, C = c]  buffer p[C] = 300  output x + p^2 / (1 + p^2) }
norm Affine { input x[N, C = c]  let z = affine(x per C)  output z + 0 }
norm Masked { input x[N, T, C], keep: mask[N, T] = true  output x - mean(x over T where keep) }
norm Chosen { input x[N, T, C], keep: mask[N, T]  output where(keep, x, 0) }
norm Rows { input x[N, C = c], label: index[N] of K = k  param w[K, C] = 1  output x * w[label] }
norm Groups { input x[N, C], batch: index[N]  output x - mean(x over N: batch) }
norm Many { input x[N, C], many: index[N]  output x * (position(C) < many) }
norm Same { input x[N, C], kind: index[N] of K = 3  output x * sum(position(K) == kind over K) }
norm Edges { input x[N, C], edge: edges[N]  output x - mean(x over N: edge) }
norm Mixed { input x[N, C], near: matrix[N, N]  output x - mean(x over N: near) }
"""


@pytest.fixture(scope="module")
def norms() -> ModuleType:
    return metanorm.loads(SPECS)


def squashed(t: Tensor) -> Tensor:
    """What is lost where squares overflow, as those of 300 do in float16."""
    return t.square() / (1 + t.square())


REAL: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "Given": lambda x, t: x + squashed(t),
    "Optional": lambda x, t: x + squashed(t),
    "Other": lambda x, t: x + squashed(t),
    "Narrow": lambda x, t: x + t[0].square().sum() / (1 + t[0].square().sum()),
    "Weighed": lambda x, t: (
        x - (x * t.square()).sum(1, keepdim=True) / (1 + t.square().sum(1, keepdim=True))
    ),
}


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", REAL)
def test_inputs_in_half_precision_are_widened(
    name: str, dtype: torch.dtype, target: Any, norms: ModuleType
) -> None:
    x, t = torch.randn(2, 3).to(dtype), torch.full((2, 3), 300.0).to(dtype)
    right = REAL[name](x.float(), t.float()).to(dtype)
    with runtime.use(target):
        y = getattr(norms, name)()(x, t[0] if name == "Narrow" else t)
    assert y.dtype == dtype
    torch.testing.assert_close(y, right, rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize("target", ["torch", "auto"])
@pytest.mark.parametrize("name", ["Scaled", "Kept"])
def test_what_a_module_keeps_in_half_precision_is_widened(
    name: str, target: Any, norms: ModuleType
) -> None:
    x = torch.zeros(2, 3, dtype=torch.float16)
    with runtime.use(target):
        y = getattr(norms, name)(3, dtype=torch.float16)(x)
    assert y.dtype == torch.float16 and torch.equal(y, torch.ones_like(x))


ONES = torch.ones(2, 3)
LONG = torch.tensor([0, 1])
WRONG: dict[str, tuple[tuple[int, ...], Any, str]] = {
    "Given": ((), ONES.long(), "floating-point"),
    "Optional": ((), ONES.bool(), "floating-point"),
    "Narrow": ((), ONES[0].to(torch.complex64), "floating-point"),
    "Masked": ((), torch.zeros(2, 4), "keep"),
    "Chosen": ((), torch.ones(2, 4, dtype=torch.uint8), "keep"),
    "Rows": ((3, 2), LONG.float(), "integers"),
    "Groups": ((), LONG.bool(), "int"),
    "Many": ((), LONG.float(), "integers"),
    "Same": ((), LONG.bool(), "integers"),
    "Edges": ((), LONG[None].expand(2, 2).float(), "integers"),
    "Mixed": ((), torch.ones(2, 2, dtype=torch.complex64), "near"),
}


@pytest.mark.parametrize("target", ["torch", "auto", "native"])
@pytest.mark.parametrize("name", WRONG)
def test_tensors_of_another_type_are_refused(name: str, target: Any, norms: ModuleType) -> None:
    arguments, inputs, message = WRONG[name]
    norm = getattr(norms, name)(*arguments)
    x = torch.randn(2, 4, 3) if name in ("Masked", "Chosen") else ONES
    if target == "native" and name in ("Rows", "Same", "Edges", "Mixed"):
        return  # no kernels
    with runtime.use(target), pytest.raises(TypeError, match=message):
        norm(x, inputs)


@pytest.mark.parametrize("name", ["Masked", "Chosen"])
@pytest.mark.parametrize("target", ["torch", "auto", "native"])
def test_a_mask_is_never_read_as_not_zero(name: str, target: Any, norms: ModuleType) -> None:
    """An additive mask has zeros where elements count."""
    norm, x = getattr(norms, name)(), torch.randn(2, 4, 3)
    keep = torch.tensor([[True, True, False, False], [True, True, True, False]])
    for mask in (torch.where(keep, 0.0, -torch.inf), keep * 0.5, keep.long()):
        with runtime.use(target), pytest.raises(TypeError, match="keep is a mask"):
            norm(x, mask)
    with runtime.use(target):
        norm(x, keep)


def test_a_mask_of_a_called_norm_is_a_condition() -> None:
    spec = """
    norm Inner { input x[N, C], keep: mask[N, C]  output x - mean(x over C where keep) }
    norm Outer { input x[N, C]  output Inner(x, GIVEN) }
    """
    with pytest.raises(metanorm.SpecError, match="is a mask, and the value is no condition"):
        metanorm.loads(spec.replace("GIVEN", "x * 2"))
    outer, x = metanorm.loads(spec.replace("GIVEN", "x > 0")).Outer(), torch.randn(3, 5)
    positive = x > 0
    mean = (x * positive).sum(1, keepdim=True) / positive.sum(1, keepdim=True)
    torch.testing.assert_close(outer(x), x - mean)
