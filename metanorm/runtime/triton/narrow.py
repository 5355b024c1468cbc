"""What torch computes of narrow values: statistics of them, and softmax."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime import pools

POOLS: Mapping[str, Any] = {"sum": pools.total, "mean": pools.mean, "moments": pools.moments}


@dataclass(frozen=True)
class Operand:
    """A narrow tensor: which of its dimensions stands where, if one does, and its lengths.

    Where it is missing, `absent` stands for it.
    """

    key: str
    axes: tuple[int | None, ...]
    sizes: tuple[int, ...]
    absent: float | None
    like: Tensor  # of the device and the type of the arithmetic

    def of(self, tensors: Mapping[str, Any], dtype: torch.dtype | None) -> Tensor:
        """The tensor with a dimension for each axis that counts."""
        given: Tensor | None = tensors[self.key]
        if given is None:
            tensor = self.like.new_full(self.sizes, self.absent or 0.0)
        else:
            tensor = given.view(self.sizes)
        tensor = tensor.permute([axis for axis in self.axes if axis is not None])
        for place, axis in enumerate(self.axes):
            if axis is None:
                tensor = tensor.unsqueeze(place)
        return tensor != 0 if dtype is None else tensor.to(dtype)


@dataclass(frozen=True)
class Pooling:
    """A statistic over some dimensions; the results of `moments` are a mean and a variance."""

    function: str
    value: Operand
    dims: tuple[int, ...]
    results: tuple[str, ...]
    where: Operand | None
    weight: Operand | None
    real: torch.dtype

    def run(self, tensors: dict[str, Any]) -> None:
        """Compute it into the arrays of its results."""
        value = self.value.of(tensors, self.real)
        found: tuple[Tensor, ...]
        if self.function == "softmax":
            found = (torch.softmax(value, self.dims[0]),)
        else:
            where = None if self.where is None else self.where.of(tensors, None)
            weight = None if self.weight is None else self.weight.of(tensors, self.real)
            pooled: dict[str, Any] = {
                "sum": pools.total,
                "mean": pools.mean,
                "moments": pools.moments,
            }
            result = pooled[self.function](value, self.dims, where=where, weight=weight)
            found = (result,) if isinstance(result, Tensor) else result
        for key, array in zip(self.results, found):
            if key:
                tensors[key].copy_(array.reshape(tensors[key].shape))
