"""Statistics that are found in the order of the values of a pool."""

from __future__ import annotations

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
    """The value over `dim` below which a share of the values lies, in the dtype of x.

    Between two values as `torch.quantile` has it, which takes one dimension and no more than 16
    million elements. The gradient goes to these two; of equal ones, to the first in their order.
    Where `where` is false an element does not count, and where none does, the result is zero. A NaN
    that counts gives NaN.

    Raises `ValueError` for a share that is not between 0 and 1.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"the share of a quantile must be between 0 and 1, got {share}")
    dims = sorted(d % x.dim() for d in dim)
    kept = [d for d in range(x.dim()) if d not in dims]
    if where is not None:
        where = where.expand_as(x)
    values = x.permute(*kept, *dims).reshape([*(x.shape[d] for d in kept), -1])
    found = _at(values, share, None if where is None else _flat(where, kept, dims))
    for d in dims if keepdim else ():
        found = found.unsqueeze(d)
    return found


def _flat(where: Tensor, kept: list[int], dims: list[int]) -> Tensor:
    return where.permute(*kept, *dims).reshape([*(where.shape[d] for d in kept), -1])


def _at(x: Tensor, share: float, counts: Tensor | None) -> Tensor:
    """The value at a share of the way through the last dimension."""
    if x.shape[-1] == 0:
        return x.sum(-1)
    odd = x.isnan() if counts is None else x.isnan() & counts
    left_out = odd if counts is None else odd | ~counts
    ordered = torch.sort(x.masked_fill(left_out, torch.inf), dim=-1, stable=True).values
    if counts is None and is_tracing():  # a place is a number, which a trace would keep
        counts = torch.ones_like(x, dtype=torch.bool)
    if counts is None:
        place = share * (x.shape[-1] - 1)
        below = ordered[..., int(place)]
        part = place - int(place)
        found = below + part * (ordered[..., int(place) + 1] - below) if part else below
    else:
        number = counts.sum(-1, keepdim=True)
        places = share * (number - 1).clamp(min=0).to(torch.promote_types(x.dtype, torch.float32))
        first = places.floor()
        low, high = (ordered.gather(-1, p.long()) for p in (first, places.ceil()))
        parts = places - first
        # What lies between two infinities has no number; where nothing lies between, none is asked.
        step = (high - low).masked_fill(parts == 0, 0)
        found = (low + parts * step).masked_fill(number == 0, 0).squeeze(-1)
    return found.masked_fill(odd.any(-1), torch.nan)
