"""A tensor of a wrong type: refused in the same words, whatever a norm runs on."""

from __future__ import annotations

import functools
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

import metanorm
from metanorm import runtime

SPECS = """
norm Tracked(momentum = 0.1) { input x[N, C = c, *S]  reduce N, *S track momentum  affine C }
norm Plain { input x[N, C = c, *S]  reduce C, *S  affine C }
norm Masked {
  input  x[N, C = c, *S], mask: mask[N, *S] = true
  output affine(x - mean(x over N, *S where mask) per C)
}
norm Grouped { input x[N, C = c], batch: index[N]  output affine(x - mean(x over N: batch) per C) }
norm Beside { input x[N, C = c], t[C] = 2  output affine(x * t per C) }
"""
ROWS = torch.zeros(6, dtype=torch.long)
INPUTS: dict[str, dict[str, Tensor]] = {
    "Tracked": {"x": torch.ones(6, 4, 5)},
    "Plain": {"x": torch.ones(6, 4, 5)},
    "Masked": {"x": torch.ones(6, 4, 5), "mask": torch.ones(6, 5, dtype=torch.bool)},
    "Grouped": {"x": torch.ones(6, 4), "batch": ROWS},
    "Beside": {"x": torch.ones(6, 4), "t": torch.ones(4)},
}
DTYPES = [torch.int64, torch.int32, torch.bool, torch.complex64, torch.float64, torch.float16]


@functools.cache
def norms() -> ModuleType:
    return metanorm.loads(SPECS)


def outcome(name: str, which: str, dtype: torch.dtype, target: Any, training: bool) -> str:
    """What a call says with one of its tensors in this type."""
    norm = getattr(norms(), name)(4).train(training)
    inputs = dict(INPUTS[name])
    if which in inputs:
        inputs[which] = inputs[which].to(dtype)
    elif which in norm._buffers:
        norm._buffers[which] = norm._buffers[which].to(dtype)
    else:
        norm.requires_grad_(False)
        norm._parameters[which].data = norm._parameters[which].data.to(dtype)
    try:
        with runtime.use(target):
            norm(**inputs)
    except TypeError as error:
        return str(error)
    return "taken"


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", INPUTS)
def test_all_targets_take_and_refuse_the_same(
    name: str, dtype: torch.dtype, training: bool
) -> None:
    norm = getattr(norms(), name)(4)
    state = {*dict(norm.named_parameters()), *dict(norm.named_buffers())}
    for which in {*INPUTS[name], *state} - {"num_batches_tracked"}:
        said = {t: outcome(name, which, dtype, t, training) for t in ("auto", "torch")}
        assert said["auto"] == said["torch"]
        kind = {"mask": "mask", "batch": "index"}.get(which, "real")
        whole = dtype in (torch.int64, torch.int32)
        good = {"mask": dtype is torch.bool, "index": whole, "real": dtype.is_floating_point}[kind]
        assert (said["torch"] == "taken") == good
        assert good or which in said["torch"]


def test_a_kernel_asks_for_no_length_of_what_it_does_not_read() -> None:
    lines = "input x[N, C], label: index[N] of K = classes\noutput x - mean(x over C)"
    norm, x = metanorm.loads(f"norm A {{\n{lines}\n}}").A(3), torch.randn(4, 5)
    with runtime.use("native"):
        y = norm(x, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(y, x - x.mean(1, keepdim=True))
