"""Scans as dense matrices in plain torch, for the tests of kernels in C and in Triton."""

from __future__ import annotations

import torch
from torch import Tensor

F64 = torch.float64
WEIGHTS = ("", "where keep", "weight heavy")
POOLS = {
    "truncate": "window(w)",
    "zero": "window(w, edge = zero)",
    "replicate": "window(w, edge = replicate)",
    "few": "causal(w)",
    "all": "causal",
}


def near_text(pool: str, weights: str) -> str:
    """A norm of everything that scans find, along T and then of values that have T alone beside N.
    Its argument is the width of windows."""
    pooled = f"C, T: {POOLS[pool]} {weights}"
    return f"""
norm Near(w: int) {{
  input  x[N, C, T], keep: mask[N, T], heavy[N, T]
  let    m = moments(x over {pooled})
  let    again = mean(max(x over C) over T: {POOLS[pool]} {weights})
  let    held = count(over T: {POOLS[pool]} {weights})
  output (x - m.mean) / sqrt(m.var + 0.1) + 0.1 * sum(x over {pooled}) + again + held
}}
"""


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


def right(x: Tensor, keep: Tensor, heavy: Tensor, pool: str, weights: str, width: int) -> Tensor:
    """The same as plain sums over [N, C, pools, positions]."""
    samples, length = keep.shape
    counted, zeros = dense(pool, width, length)
    weights_by_kind = {
        "": torch.ones(samples, length, dtype=F64),
        "where keep": keep.to(F64),
        "weight heavy": heavy,
    }
    entries = (counted * weights_by_kind[weights][:, None])[:, None]
    zeros = zeros * (weights == "")

    def mean(values: Tensor) -> Tensor:
        """Of [N, channels, pools, positions] and of zeros: [N, pools]."""
        total = (entries * values).sum((1, 3))
        weight = (entries.sum((1, 3)) + zeros) * values.shape[1]
        return torch.where(weight != 0, total / torch.where(weight != 0, weight, 1), 0)

    here = x[:, :, None]
    centre = mean(here)
    beyond = zeros / (entries.sum((1, 3)) + zeros).clamp_min(1) * centre.square()
    var = mean((here - centre[:, None, :, None]).square()) + beyond
    added = (entries * here).sum((1, 3))
    again = mean(x.amax(1, keepdim=True)[:, :, None])
    held = entries.sum((1, 3)) + zeros
    centred = (x - centre[:, None]) / (var + 0.1).sqrt()[:, None]
    return centred + (0.1 * added + again + held)[:, None]


def inputs(samples: int, channels: int, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """A mask that leaves out whole windows, and weights of which some are zero."""
    x = (torch.randn(samples, channels, length, dtype=F64) + 1).requires_grad_()
    keep = torch.rand(samples, length) > 0.3
    keep[0, : length // 2] = False
    heavy = torch.rand(samples, length, dtype=F64)
    heavy[1, 3 : length - 2] = 0
    return x, keep, heavy.requires_grad_()
