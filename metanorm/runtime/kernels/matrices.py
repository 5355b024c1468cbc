"""Matrices that the constructor of a norm was given, as kernels take them."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.table import Table
from metanorm.runtime.matrices import structured


def named_matrices(table: Table, values: Mapping[str, Any], x: Tensor) -> dict[str, Tensor | None]:
    """The matrices among the arguments of a call that are given by name: nothing for `eye`.

    Raises `ShapeError` where one does not fit the axis of `x` that it is for, and `Unfit` for a
    matrix of numbers that has a gradient, which no kernel computes.
    """
    found: dict[str, Tensor | None] = {}
    for name, axis in table.matrices.items():
        given = values[name]
        if isinstance(given, Tensor):
            if given.requires_grad:
                raise Unfit("a matrix with a gradient that the constructor was given")
        elif given == "eye":
            found[name] = None
        else:
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            found[name] = _made(given, name, _length(table, axis, values), dtype)
    return found


def _length(table: Table, axis: str, values: Mapping[str, Any]) -> int:
    """The length of an axis of one dimension, of which some tensor knows."""
    for name, dims in table.tensors.items():
        tensor = values.get(name)
        if axis in dims and isinstance(tensor, Tensor):
            place = dims.index(axis)
            behind = any(dim.startswith("*") for dim in dims[:place])
            return tensor.shape[place - len(dims) if behind else place]
    raise Unfit(f"no axis {axis}")


@functools.lru_cache(maxsize=16)
def _made(given: str, name: str, length: int, dtype: torch.dtype) -> Tensor:
    return structured(given, name, length, torch.empty((), dtype=dtype, device="cpu"))
