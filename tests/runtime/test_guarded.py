"""Functions whose slope counts only where a gradient arrives, and their second derivatives."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metanorm.runtime.guarded import guarded

NAN = float("nan")


def test_no_gradient_passes_where_none_arrives() -> None:
    x = torch.tensor([4.0, 0.0, NAN], requires_grad=True)
    weight = torch.tensor([1.0, 0.0, 0.0])
    (gradient,) = torch.autograd.grad(guarded(torch.sqrt, x), x, weight)
    assert gradient.tolist() == [0.25, 0, 0]


@pytest.mark.parametrize("function", [torch.sqrt, torch.reciprocal, torch.square])
def test_a_gradient_of_a_gradient_has_the_slope_where_no_gradient_arrived(function: object) -> None:
    """`w f(x)` at `w = 0` has no gradient by `x`, but that gradient has one by `w`: the slope."""
    x = torch.tensor([4.0, 9.0], dtype=torch.float64, requires_grad=True)
    w = torch.tensor([0.0, 1.0], dtype=torch.float64, requires_grad=True)

    def second(f: object) -> list[Tensor]:
        y = guarded(function, x) if f is guarded else function(x)  # type: ignore[operator,arg-type]
        (gradient,) = torch.autograd.grad((w * y).sum(), x, create_graph=True)
        return list(torch.autograd.grad(gradient.sum(), (w, x)))

    assert all(map(torch.equal, second(guarded), second(function)))


def test_no_gradient_of_a_gradient_is_nan_where_there_is_no_slope() -> None:
    x = torch.tensor([4.0, 0.0, NAN], requires_grad=True)
    w = torch.tensor([0.0, 0.0, 0.0], requires_grad=True)
    y = torch.where(torch.tensor([True, False, False]), guarded(torch.sqrt, x), 0)
    (gradient,) = torch.autograd.grad((w * y).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), w)
    assert second.tolist() == [0.25, 0, 0]


def test_a_second_derivative_that_is_infinite_reaches_nothing_where_no_gradient_arrived() -> None:
    """`x^1.5` has a slope of zero at zero, and no second derivative."""
    x = torch.tensor([4.0, 0.0], requires_grad=True)
    w = torch.tensor([1.0, 0.0], requires_grad=True)
    y = guarded(torch.pow, x, 1.5)
    (gradient,) = torch.autograd.grad((w * y).sum(), x, create_graph=True)
    by_w, by_x = torch.autograd.grad(gradient.sum(), (w, x))
    assert by_w.tolist() == [3, 0]
    assert by_x.tolist() == [0.375, 0]


def test_a_parameter_broadcasts() -> None:
    x = torch.tensor([[1.0, 2.0], [3.0, 4.0]], dtype=torch.float64, requires_grad=True)
    p = torch.tensor([2.0, 4.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(lambda x, p: guarded(torch.div, x, p), (x, p))


def test_functions_of_functions() -> None:
    x, w = torch.tensor([4.0, 9.0]), torch.tensor([0.0, 1.0])

    def loss(x: Tensor, w: Tensor) -> Tensor:
        return (w * guarded(torch.sqrt, x)).sum()

    slope = torch.func.grad(lambda w: torch.func.grad(loss)(x, w).sum())(w)
    assert torch.allclose(slope, 0.5 / x.sqrt())
