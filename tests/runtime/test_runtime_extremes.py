"""The largest values of windows: equal ones share the gradient, as in every other pool."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metanorm import runtime

F64 = torch.float64
WINDOWS = {
    "three": (runtime.Window(3), 1, 1),
    "even": (runtime.Window(4), 2, 1),
    "wide": (runtime.Window(30), 15, 14),
    "past": (runtime.Causal(3), 2, 0),
    "whole past": (runtime.Causal(), 20, 0),
}
every_window = pytest.mark.parametrize("name", WINDOWS)


def one_by_one(x: Tensor, back: int, ahead: int) -> Tensor:
    """Each window on its own, by torch's `amax`."""
    length = x.shape[1]
    parts = [x[:, max(0, t - back) : t + ahead + 1].amax(1) for t in range(length)]
    return torch.stack(parts, 1)


def draw(values: int) -> Tensor:
    """[3, 20, 2] of few different values, so that many are equal."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, values, (3, 20, 2), generator=generator).to(F64).requires_grad_()


@every_window
@pytest.mark.parametrize("values", [1, 2, 4, 1000])
def test_equal_ones_share_the_gradient(name: str, values: int) -> None:
    window, back, ahead = WINDOWS[name]
    x = draw(values)
    actual, right = runtime.largest_along(x, {1: window}), one_by_one(x, back, ahead)
    assert torch.equal(actual, right)
    seed = torch.randn(actual.shape, generator=torch.Generator().manual_seed(1), dtype=F64)
    gradients = [torch.autograd.grad(y, x, seed)[0] for y in (actual, right)]
    torch.testing.assert_close(*gradients, rtol=1e-12, atol=1e-12)


@every_window
def test_derivatives_of_every_kind(name: str) -> None:
    window, _, _ = WINDOWS[name]
    x = torch.randn(2, 7, generator=torch.Generator().manual_seed(0), dtype=F64).requires_grad_()

    def run(x: Tensor) -> Tensor:
        return runtime.largest_along(x, {1: window})

    assert torch.autograd.gradcheck(run, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, x)
    rows = torch.vmap(torch.func.grad(lambda row: run(row[None]).sum()))(x.detach())
    torch.testing.assert_close(rows, torch.autograd.grad(run(x).sum(), x)[0])


def test_tangents_of_equal_ones_are_averaged() -> None:
    x, dx = torch.zeros(1, 3, dtype=F64), torch.tensor([[1.0, 2, 6]], dtype=F64)
    run = lambda x: runtime.largest_along(x, {1: runtime.Window(3)})  # noqa: E731
    assert torch.func.jvp(run, (x,), (dx,))[1].tolist() == [[1.5, 3, 4]]


def test_nan_stays_in_the_windows_that_hold_it() -> None:
    x = torch.tensor([[1.0, 1, torch.nan, 0, 5, 5]], dtype=F64, requires_grad=True)
    y = runtime.largest_along(x, {1: runtime.Causal(2)})
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert y.isnan().tolist() == [[False, False, True, True, False, False]]
    assert gradient.isnan().tolist() == [[False, True, True, True, False, False]]
    assert gradient[0, 0] == 1.5
    assert gradient[0, 4:].tolist() == [1.5, 0.5]
