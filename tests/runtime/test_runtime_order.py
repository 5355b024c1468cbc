"""`runtime.quantile` beside `torch.quantile`, which takes one dimension: shapes, masks, edges."""

from __future__ import annotations

from itertools import chain, combinations

import pytest
import torch
from torch import Tensor

from metanorm.runtime.order import quantile

SHAPES = ((), (1,), (0,), (5,), (3, 4), (0, 4), (3, 0), (2, 3, 4), (2, 0, 4), (0, 3, 0))


def reference(x: Tensor, share: float, dims: tuple[int, ...], counts: Tensor) -> Tensor:
    """Each pool by itself; a pool of nothing gives zero."""
    kept = [d for d in range(x.dim()) if d not in dims]
    result = x.new_zeros([x.shape[d] for d in kept])
    for place in (index.tolist() for index in torch.ones_like(result).nonzero()):
        at = tuple(place[kept.index(d)] if d in kept else slice(None) for d in range(x.dim()))
        values = x[at][counts[at]]
        if len(values):
            result[tuple(place)] = torch.quantile(values, share)
    return result


@pytest.mark.parametrize("masked", (False, True))
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_over_any_dimensions_of_any_shape(shape: tuple[int, ...], masked: bool) -> None:
    generator = torch.Generator().manual_seed(len(shape))
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    where = torch.rand(shape, generator=generator) < 0.6 if masked else None
    counts = torch.ones(shape, dtype=torch.bool) if where is None else where
    every = range(len(shape))
    for dims in chain.from_iterable(combinations(every, n) for n in range(len(shape) + 1)):
        for share in (0, 0.3, 0.5, 1):
            expected = reference(x, share, dims, counts)
            torch.testing.assert_close(quantile(x, share, dims, where=where), expected)
            kept = quantile(x, share, dims, keepdim=True, where=where)
            assert kept.shape == tuple(1 if d in dims else n for d, n in enumerate(shape))
            torch.testing.assert_close(kept.reshape(expected.shape), expected)
