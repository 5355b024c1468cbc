"""What counts as agreement: how far apart two numbers may be, and where NaN is allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from metanorm.ir.nodes import Program
from metanorm.verify.cases import F64, Setting

# How far a result may be from the oracle, relative to the largest number in it.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 4e-3,
    torch.float8_e4m3fn: 0.13,
    torch.float8_e5m2: 0.26,
}


def expected_dtype(program: Program, output: str, setting: Setting) -> torch.dtype:
    """The dtype that an output has to have where all tensors of a call are of that of a setting."""
    said = dict(program.output_dtypes).get(output)
    if said is None or said.like:
        return setting.dtype
    dtype: torch.dtype = getattr(torch, said.name)
    return dtype


def conditioning(setting: Setting) -> float:
    """How much the input amplifies rounding: by the ratio of its mean to its spread.

    Mixtures of means of a constant differ from it by rounding, which 1 / sqrt(eps) amplifies.
    """
    if setting.single:
        return 1e3
    return {"mean 1e4": 5e3, "constant": 1e2}.get(setting.values, 1.0)


def difference(found: Tensor, right: Tensor, calm: Tensor, floor: float) -> float:
    """The largest difference, relative to the largest finite number that is right, or `floor`.

    `calm` is what would be right for ordinary inputs. Where that is `right` too, nothing bad may
    have come through; elsewhere a NaN or an infinity counts as equal to any number, but a number
    not to them. Infinity where this is violated.
    """
    found, right, calm = (t.detach().to("cpu", F64) for t in (found, right, calm))
    touched = ~torch.isclose(right, calm, rtol=1e-12, atol=0.0)
    odd, odd_right = ~torch.isfinite(found), ~torch.isfinite(right)
    if bool((odd & ~odd_right & ~touched).any() or (odd_right & ~odd).any()):
        return float("inf")
    known = ~(odd | odd_right)
    found, right = found[known], right[known]
    if found.numel() == 0:
        return 0.0
    return float((found - right).abs().max() / right.abs().max().clamp_min(floor))


def any_finite(found: Tensor, right: Tensor) -> bool:
    """Whether there is a number to compare: one that is finite on both sides."""
    finite = torch.isfinite(found.detach().to("cpu", F64)) & torch.isfinite(right.detach())
    return bool(finite.any())
