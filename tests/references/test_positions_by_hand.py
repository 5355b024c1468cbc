"""One position of an axis, by hand."""

from __future__ import annotations

import pytest
import torch
from by_hand import References
from torch import Tensor

from metanorm import runtime

references = References()
TARGETS = pytest.mark.parametrize("target", ["torch", "native"])


@references(
    "norm Ends { input x[N, T, C = c]  param w[C] = 1  let last = stop(x[T = -1]) "
    "output x * w - last, first = x[T = 0, C = 1], w[C = -2] * x[T = 2] }",
    {"c": 3},
    x=(2, 4, 3),
    torch_only="a position of an axis whose length a call decides",
)
def ends(x: Tensor, w: Tensor) -> tuple[Tensor, ...]:
    return x * w - x[:, -1:].detach(), x[:, 0, 1], w[-2] * x[:, 2]


@references(
    "norm Means { input x[N, C = c]  let m = mean(x over N)  output x - m[C = 1] * m[C = -1] }",
    {"c": 3},
    x=(4, 3),
    torch_only="a position of an axis whose length a call decides",
)
def of_a_statistic(x: Tensor) -> Tensor:
    m = x.mean(0)
    return x - m[1] * m[-1]


@references(
    "norm Split { input x[N, C, *S]  axis C = (G = 2, D)  output x - mean(x[G = 1] over D) }",
    x=(2, 6, 4),
    torch_only="lookup of a value as large as the input",
)
def of_a_part_of_an_axis(x: Tensor) -> Tensor:
    return x - x[:, 3:].mean(1, keepdim=True)


@references(
    "norm Quotient { input x[N, T], many: index[N]  let c = position(T) == many "
    "let few = 2 < many  output x * (c / (c + c + 1)) + (few - c) / 2 }",
    x=(3, 4),
    many=torch.tensor([1, 3, 9]),
)
def of_conditions(x: Tensor, many: Tensor) -> Tensor:
    """A quotient of numbers that happen to be whole."""
    c = (torch.arange(4) == many[:, None]).to(x.dtype)
    return x * c / (2 * c + 1) + ((many > 2)[:, None].to(x.dtype) - c) / 2


@TARGETS
@pytest.mark.parametrize("name", references.names())
def test_reference(name: str, target: str) -> None:
    references.check(name, target)


@pytest.mark.parametrize("target", ["torch", "auto"])
def test_an_axis_that_is_too_short(target: str) -> None:
    norm = references.module.Means(1)
    with runtime.use(target), pytest.raises(runtime.ShapeError, match="C has 1 positions"):
        norm(torch.randn(4, 1))
