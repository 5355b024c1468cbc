"""Random numbers that norms draw in training, from the generator of the device, as dropout does.

`torch.randn` and `torch.rand` obey `torch.manual_seed`, are drawn again by a checkpoint, and follow
the `randomness` of `torch.func.vmap`. What is drawn has no gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metanorm.runtime.fx import node


@node
def draw_normal(x: Tensor, shape: Sequence[int], mean: float, std: float) -> Tensor:
    """Normally distributed numbers of a shape, on the device and in the dtype of x.

    Of the shape of x, they have its memory layout too. Raises `ValueError` for a negative
    deviation.
    """
    if std < 0:
        raise ValueError(f"normal: the deviation must not be negative, and is {std}")
    numbers = torch.randn_like(x) if _is_whole(x, shape) else _factory(torch.randn, x, shape)
    return _moved(numbers, mean, std)


@node
def draw_uniform(x: Tensor, shape: Sequence[int], low: float, high: float) -> Tensor:
    """Numbers that are equally likely everywhere from `low` to `high`, as `draw_normal` has them.

    Raises `ValueError` unless `low` is at most `high`.
    """
    if low > high:
        raise ValueError(f"uniform: the lower bound {low} is above the upper one, {high}")
    numbers = torch.rand_like(x) if _is_whole(x, shape) else _factory(torch.rand, x, shape)
    return _moved(numbers, low, high - low)


@node
def draw_bernoulli(x: Tensor, shape: Sequence[int], p: float) -> Tensor:
    """Booleans of a shape, on the device of x, that are true with the probability p.

    Raises `ValueError` unless p lies between 0 and 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: a probability lies between 0 and 1, and is {p}")
    # A half-precision number could be no nearer to p than 0.4 percent.
    if _is_whole(x, shape):
        return torch.rand_like(x, dtype=torch.float32) < p
    return torch.rand(tuple(shape), dtype=torch.float32, device=x.device) < p


def _is_whole(x: Tensor, shape: Sequence[int]) -> bool:
    return tuple(shape) == tuple(x.shape)


def _factory(draw: Callable[..., Tensor], x: Tensor, shape: Sequence[int]) -> Tensor:
    return draw(tuple(shape), dtype=x.dtype, device=x.device)


def _moved(numbers: Tensor, start: float, width: float) -> Tensor:
    """The numbers, wider by a factor and moved; a neutral step is left out."""
    if width != 1:
        numbers = numbers * width
    return numbers + start if start != 0 else numbers


def demand_drawn(owner: str, **drawn: Tensor | None) -> None:
    """Raise `TypeError` for random numbers that a call in training lacks.

    A module draws them. Who calls its function passes them as arguments.
    """
    for name, numbers in drawn.items():
        if numbers is None:
            raise TypeError(f"{owner}: training needs the random numbers `{name}`")
