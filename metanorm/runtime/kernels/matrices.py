"""Matrices that the constructor of a norm was given, as kernels take them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.matrices import structured


def matrices_by_name(
    table: Table, values: Mapping[str, Any], x: Tensor
) -> dict[str, Tensor | None]:
    """The matrices among the arguments of a call that are given by name; `None` for `eye`.

    Raises `ShapeError` where one does not fit the axis of `x` that it is for, and `Unsupported` for
    a matrix of numbers that has a gradient, which no kernel computes.
    """
    matrices: dict[str, Tensor | None] = {}
    for argument, axis in table.matrices.items():
        matrix = values[argument]
        if isinstance(matrix, Tensor):
            if matrix.requires_grad:
                raise Unsupported("a matrix with a gradient that the constructor was given")
        elif matrix == "eye":
            matrices[argument] = None
        else:
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            length = _axis_length(table, axis, values)
            matrices[argument] = _cached_matrix(matrix, argument, length, dtype)
    return matrices


def _axis_length(table: Table, axis: str, values: Mapping[str, Any]) -> int:
    """The length of an axis of one dimension, from a tensor that has it."""
    for name, dims in table.tensors.items():
        tensor = values.get(name)
        if axis in dims and isinstance(tensor, Tensor):
            position = dims.index(axis)
            after_variadic = any(dim.startswith("*") for dim in dims[:position])
            return tensor.shape[position - len(dims) if after_variadic else position]
    raise Unsupported(f"no axis {axis}")


@functools.lru_cache(maxsize=16)
def _cached_matrix(name: str, argument: str, length: int, dtype: torch.dtype) -> Tensor:
    return structured(name, argument, length, torch.empty((), dtype=dtype, device="cpu"))
