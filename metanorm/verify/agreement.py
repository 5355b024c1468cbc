"""The measure of agreement: tolerances, and where NaN is allowed."""

from __future__ import annotations

import torch
from torch import Tensor

from metanorm.ir.program import Program
from metanorm.verify.cases import F64, Setting

# The largest error of a result, relative to the largest number that the oracle has in it.
TOLERANCE = {
    torch.float64: 1e-11,
    torch.float32: 2e-5,
    torch.bfloat16: 2e-2,
    torch.float16: 4e-3,
    torch.float8_e4m3fn: 0.13,
    torch.float8_e5m2: 0.26,
}


def expected_dtype(program: Program, output: str, setting: Setting) -> torch.dtype:
    """The dtype of an output, if all tensors of the call have the dtype of the setting."""
    declared = dict(program.output_dtypes).get(output)
    if declared is None or declared.like:
        return setting.dtype
    dtype: torch.dtype = getattr(torch, declared.name)
    return dtype


def conditioning(setting: Setting) -> float:
    """The factor by which the input amplifies rounding: the ratio of its mean to its spread.

    For a constant input, mixtures of means differ from it by rounding, which 1 / sqrt(eps)
    amplifies.
    """
    if setting.single:
        return 1e3
    return {"mean 1e4": 5e3, "constant": 1e2}.get(setting.values, 1.0)


def difference(actual: Tensor, expected: Tensor, ordinary: Tensor, floor: float) -> float:
    """The largest difference, relative to the largest finite number expected, or to `floor`.

    `ordinary` is the expected result for an input without NaN and infinity. Where it equals
    `expected`, the result must be finite. Elsewhere a NaN or an infinity is equal to any number,
    but a number is not equal to them. Returns infinity if this is violated.
    """
    actual, expected, ordinary = (t.detach().to("cpu", F64) for t in (actual, expected, ordinary))
    may_be_odd = ~torch.isclose(expected, ordinary, rtol=1e-12, atol=0.0)
    is_odd, expected_odd = ~torch.isfinite(actual), ~torch.isfinite(expected)
    if bool((is_odd & ~expected_odd & ~may_be_odd).any() or (expected_odd & ~is_odd).any()):
        return float("inf")
    finite = ~(is_odd | expected_odd)
    actual, expected = actual[finite], expected[finite]
    if actual.numel() == 0:
        return 0.0
    return float((actual - expected).abs().max() / expected.abs().max().clamp_min(floor))


def any_finite(actual: Tensor, expected: Tensor) -> bool:
    """Whether any element is finite on both sides, so that there is something to compare."""
    finite = torch.isfinite(actual.detach().to("cpu", F64)) & torch.isfinite(expected.detach())
    return bool(finite.any())
