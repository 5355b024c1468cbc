"""Statistics by the order of the values of a pool."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor

from metanorm.runtime.tracing import is_tracing


def quantile(
    x: Tensor,
    share: float,
    dim: Iterable[int],
    keepdim: bool = False,
    where: Tensor | None = None,
) -> Tensor:
    """The quantile over `dim`: the value below which a share of the values lies, in the dtype of x.

    It is interpolated as in `torch.quantile`, which takes one dimension and at most 16 million
    elements. The gradient goes to the two neighbouring values; of equal values, to the first in
    memory. Elements where `where` is false do not count; if none counts, the result is zero. A NaN
    that counts gives NaN.

    Raises `ValueError` for a share that is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of a quantile must be between 0 and 1, got {share}")
    dims = sorted(d % x.dim() for d in dim)
    kept_dims = [d for d in range(x.dim()) if d not in dims]
    counts = None if where is None else _pooled_last(where.expand_as(x), kept_dims, dims)
    result = _quantile_of_last_dim(_pooled_last(x, kept_dims, dims), share, counts)
    for d in dims if keepdim else ():
        result = result.unsqueeze(d)
    return result


def _pooled_last(x: Tensor, kept_dims: list[int], dims: list[int]) -> Tensor:
    """The values with all pooled dimensions as one, which is the last."""
    length = math.prod([x.shape[d] for d in dims])  # -1 is ambiguous where others are 0
    return x.permute([*kept_dims, *dims]).reshape([*(x.shape[d] for d in kept_dims), length])


def _quantile_of_last_dim(x: Tensor, share: float, counts: Tensor | None) -> Tensor:
    """The quantile over the last dimension."""
    if x.shape[-1] == 0:
        return x.sum(-1)
    is_nan = x.isnan() if counts is None else x.isnan() & counts
    excluded = is_nan if counts is None else is_nan | ~counts
    ordered = torch.sort(x.masked_fill(excluded, torch.inf), dim=-1, stable=True).values
    if counts is None and (is_tracing() or torch.compiler.is_compiling()):
        # Else the graph would keep the position, which depends on the length, as a number.
        counts = torch.ones_like(x, dtype=torch.bool)
    if counts is None:
        position = share * (x.shape[-1] - 1)
        below = ordered[..., int(position)]
        fraction = position - int(position)
        result = below + fraction * (ordered[..., int(position) + 1] - below) if fraction else below
    else:
        n_counted = counts.sum(-1, keepdim=True)
        dtype = torch.promote_types(x.dtype, torch.float32)
        positions = share * (n_counted - 1).clamp(min=0).to(dtype)
        floor = positions.floor()
        low, high = (ordered.gather(-1, p.long()) for p in (floor, positions.ceil()))
        fractions = positions - floor
        # The difference of two infinities is NaN; where there is no fraction, it is not needed.
        step = (high - low).masked_fill(fractions == 0, 0)
        result = (low + fractions * step).masked_fill(n_counted == 0, 0).squeeze(-1)
    return result.masked_fill(is_nan.any(-1), torch.nan)
