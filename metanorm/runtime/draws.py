"""Random numbers that norms draw in training, from the generator of the device, as dropout does.

`torch.randn` and `torch.rand` obey `torch.manual_seed`, are drawn again by a checkpoint, and follow
the `randomness` of `torch.func.vmap`. What is drawn has no gradient.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from metanorm.runtime.fx import node

Shape: TypeAlias = "tuple[int, ...] | None"


@node
def draw_normal(x: Tensor, mean: float, std: float, shape: Shape = None) -> Tensor:
    """Normally distributed numbers of a shape, on the device and in the dtype of x.

    Without a shape they have that of x, and its memory layout too. Raises `ValueError` for a
    negative deviation.
    """
    if std < 0:
        raise ValueError(f"normal: the deviation must not be negative, and is {std}")
    if shape is None:
        return _moved(torch.randn_like(x), mean, std)
    return _moved(torch.randn(shape, dtype=x.dtype, device=x.device), mean, std)


@node
def draw_uniform(x: Tensor, low: float, high: float, shape: Shape = None) -> Tensor:
    """Numbers that are equally likely everywhere from `low` to `high`, as `draw_normal` has them.

    Raises `ValueError` unless `low` is at most `high`.
    """
    if low > high:
        raise ValueError(f"uniform: the lower bound {low} is above the upper one, {high}")
    if shape is None:
        return _moved(torch.rand_like(x), low, high - low)
    return _moved(torch.rand(shape, dtype=x.dtype, device=x.device), low, high - low)


@node
def draw_bernoulli(x: Tensor, p: float, shape: Shape = None) -> Tensor:
    """Booleans of a shape, on the device of x, that are true with the probability p.

    Without a shape they have that of x. Raises `ValueError` unless p lies between 0 and 1.
    """
    if not 0 <= p <= 1:
        raise ValueError(f"bernoulli: a probability lies between 0 and 1, and is {p}")
    # A number in half precision could be no nearer to p than 0.4 percent.
    if shape is None:
        return torch.rand_like(x, dtype=torch.float32) < p
    return torch.rand(shape, dtype=torch.float32, device=x.device) < p


@node
def draw_permutation(x: Tensor, shape: Shape = None) -> Tensor:
    """The positions of an axis, whose length is the shape, in random order, on the device of x.

    Without a shape they are those of x, which has one dimension.
    """
    (length,) = x.shape if shape is None else shape
    return torch.randperm(length, device=x.device)


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
