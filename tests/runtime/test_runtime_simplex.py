"""SparsestMax, against the paper's recursion and its own promises."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from naive import F64

from metanorm import runtime
from metanorm.oracle.simplex import sparsemax
from metanorm.oracle.simplex import sparsestmax as recursive

VERTEX = math.sqrt(2 / 3)  # from here on three weights are one and zeros


@given(st.integers(1, 6), st.floats(0, 1.2), st.floats(0.05, 5), st.integers(0, 2**31))
def test_it_is_the_recursion_of_the_paper(k: int, radius: float, scale: float, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = scale * torch.randn(7, k, 2, generator=generator, dtype=F64)
    x.requires_grad_()
    ours = runtime.sparsestmax(x, radius, dim=1)
    rows = [recursive(row, radius) for row in x.movedim(1, -1).reshape(-1, k)]
    theirs = torch.stack(rows).reshape(7, 2, k).movedim(-1, 1)
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(ours.sum(1), torch.ones(7, 2, dtype=F64))
    assert bool((ours >= 0).all())
    weights = torch.randn(ours.shape, generator=generator, dtype=F64)
    gradients = [torch.autograd.grad((y * weights).sum(), x)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients)


def test_a_radius_of_zero_is_sparsemax_and_a_large_one_chooses() -> None:
    x = torch.tensor([[0.3, 0.1, 0.2], [1.0, -3.0, 0.9]], dtype=F64)
    wanted = torch.stack([sparsemax(row) for row in x])
    torch.testing.assert_close(runtime.sparsestmax(x, 0.0, 1), wanted)
    chosen = runtime.sparsestmax(x, VERTEX + 1e-9, 1)
    torch.testing.assert_close(chosen, torch.tensor([[1.0, 0, 0], [1.0, 0, 0]], dtype=F64))


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.6, 1.0])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_equal_weights_stay_with_finite_gradients(radius: float, dtype: torch.dtype) -> None:
    x = torch.ones(3, dtype=dtype, requires_grad=True)
    weights = runtime.sparsestmax(x, radius, 0)
    torch.testing.assert_close(weights, torch.full((3,), 1 / 3, dtype=dtype))
    (gradient,) = torch.autograd.grad(weights[0], x)
    torch.testing.assert_close(gradient, torch.tensor([2.0, -1, -1], dtype=dtype) / 3)


@pytest.mark.parametrize("offset", [1e4, -1e6, 1e20])
def test_weights_far_from_zero_sum_to_one(offset: float) -> None:
    x = torch.tensor([0.5, 0.25, 0.0]) + offset
    near = (x.double() - x.double().max()).float()
    torch.testing.assert_close(runtime.sparsestmax(x, 0.3, 0), runtime.sparsestmax(near, 0.3, 0))
    torch.testing.assert_close(runtime.sparsestmax(x, 0.3, 0).sum(), torch.tensor(1.0))


@pytest.mark.parametrize("radius", [0.0, 0.3, 0.5, 0.9])
def test_gradients(radius: float) -> None:
    x = torch.tensor([[0.5, 0.2, 0.1, -0.4], [0.3, 0.31, 0.2, 0.0]], dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: runtime.sparsestmax(x, radius, 1), (x,))
    assert torch.autograd.gradgradcheck(lambda x: runtime.sparsestmax(x, radius, 1), (x,))


def test_odd_shapes() -> None:
    assert runtime.sparsestmax(torch.randn(0, 3), 0.5, 1).shape == (0, 3)
    assert runtime.sparsestmax(torch.randn(3, 1), 0.5, 1).eq(1).all()
    assert runtime.sparsestmax(torch.tensor([math.nan, 1.0, 2.0]), 0.5, 0).isnan().any()
