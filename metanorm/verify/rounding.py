"""Random rounding, which shows how far a result moves by rounding alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metanorm.verify.cases import F64

ROUNDING_DRAWS = 8  # random perturbations of the oracle


def random_rounding(dtype: torch.dtype, seed: int) -> Callable[[Tensor], Tensor]:
    """A function that moves each number of a tensor up or down by a unit in the last place.

    The tensor is in float64, the unit that of `dtype`. The gradient is moved likewise.
    """
    generator = torch.Generator().manual_seed(seed)

    class Rounded(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Tensor) -> Tensor:
            return _rounded_randomly(x, dtype, generator)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> Tensor:
            return _rounded_randomly(grad, dtype, generator)

    def rounded(x: Tensor) -> Tensor:
        moved: Tensor = Rounded.apply(x)  # type: ignore[no-untyped-call]
        return moved

    return rounded


def _rounded_randomly(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    signs = torch.randint(0, 2, x.shape, generator=generator).to(F64) * 2 - 1
    _, exponent = torch.frexp(x.abs().clamp_min(torch.finfo(dtype).tiny))
    unit = torch.ldexp(torch.ones_like(x), exponent - 1) * torch.finfo(dtype).eps
    # A zero is exact: it stands for an element that is masked or missing.
    return torch.where(torch.isfinite(x) & (x != 0), x + signs * unit, x)
