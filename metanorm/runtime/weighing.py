"""What counts in a pool, and how much: masks (`where`) and weights (`weight`) of elements.

Both broadcast against the elements.
"""

from __future__ import annotations

import torch
from torch import Tensor


def only_counted(x: Tensor, where: Tensor | None = None, weight: Tensor | None = None) -> Tensor:
    """The tensor with zeros for excluded elements, also for NaN.

    An element of weight zero stays if it is finite: the gradient of its weight depends on it.
    """
    if where is not None:
        x = torch.where(where != 0, x, x.new_zeros(()))
    if weight is not None:
        x = torch.where(weight != 0, x, torch.nan_to_num(x, 0.0, 0.0, 0.0))
    return x


def weighed(x: Tensor, where: Tensor | None, weight: Tensor | None) -> Tensor:
    """Each element times its weight; zero for excluded elements, also for NaN."""
    x = only_counted(x, where, weight)
    return x if weight is None else x * coefficients(x, where, weight)


def coefficients(x: Tensor, where: Tensor | None, weight: Tensor | None) -> Tensor:
    """The weight of each element, zero if excluded: of the rank of `x`, and broadcasts against it.

    A mask over a few dimensions makes no tensor of the size of `x`.
    """
    weights = x.new_ones(()) if weight is None else weight.to(x.dtype)
    if where is not None:
        weights = torch.where(where != 0, weights, torch.zeros_like(weights))
    return weights.reshape((1,) * (x.dim() - weights.dim()) + weights.shape)


def total_weight(x: Tensor, weights: Tensor, dims: tuple[int, ...]) -> Tensor:
    """The total weight of each pool; pooled dimensions stay, with length one."""
    times = 1
    for d in dims:
        if weights.shape[d] != x.shape[d]:
            times *= x.shape[d]
    return (weights.sum(dims, keepdim=True) if dims else weights) * times


def count(
    like: Tensor,
    shape: tuple[int, ...],
    where: Tensor | None = None,
    weight: Tensor | None = None,
) -> Tensor:
    """The total weight of all elements of a shape, in the dtype and on the device of `like`."""
    ones = like.new_ones(()).expand(shape)
    dims = tuple(range(len(shape)))
    return total_weight(ones, coefficients(ones, where, weight), dims).reshape(())


def over(added: Tensor, weight: Tensor) -> Tensor:
    """The quotient of a weighted sum and its weight; zero for weight zero."""
    empty = weight == 0
    return (added / weight.masked_fill(empty, 1)).masked_fill(empty, 0)
