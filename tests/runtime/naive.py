"""Statistics the slow way: in float64, one pool after the other, without the runtime."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

F64 = torch.float64


def group_moments(x: Tensor, index: Sequence[int], count: int) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of the rows of each group: zero for an empty one."""
    means = torch.zeros(count, *x.shape[1:], dtype=F64)
    variances = torch.zeros_like(means)
    for group in set(index):
        rows = x.to(F64)[[i for i, g in enumerate(index) if g == group]]
        means[group] = rows.mean(0)
        variances[group] = rows.var(0, correction=0)
    return means, variances


def matrix_moments(x: Tensor, matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance along the first dimension, weighted by each row of a matrix in turn."""
    means, variances = [], []
    for row in matrix.to(F64):
        total = row.sum()
        weight = (row / total if total != 0 else row).view(-1, *[1] * (x.dim() - 1))
        mean = (weight * x.to(F64)).sum(0)
        means.append(mean)
        variances.append((weight * (x.to(F64) - mean) ** 2).sum(0))
    return torch.stack(means), torch.stack(variances)


def weighted_moments(x: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over the last dimension; zero where nothing weighs anything."""
    weight = weight.to(F64).expand(x.shape)
    total = weight.sum(-1)
    safe = torch.where(total == 0, 1.0, total)
    known = torch.where(weight == 0, 0.0, x.to(F64))
    mean = (weight * known).sum(-1) / safe
    return mean, (weight * (known - mean.unsqueeze(-1)) ** 2).sum(-1) / safe


def blur(x: Tensor) -> float:
    """The variance that rounding alone may add to numbers as large as these."""
    return float(x.abs().max() * torch.finfo(x.dtype).eps / 2) ** 2
