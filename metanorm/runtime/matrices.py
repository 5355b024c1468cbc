"""Pools by a given matrix: row r has the weight of each position in the pool of position r."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor, nn

from metanorm.runtime import pools
from metanorm.runtime.arguments import demand_matrix
from metanorm.runtime.errors import ShapeError
from metanorm.runtime.overlapping import PoolMatrix
from metanorm.runtime.products import without_autocast

Given = Union[str, Tensor, Sequence[Sequence[float]]]

MATRIX_NAMES = re.compile(r"eye|ones|(blocks|chunks|interleave)\((\d+)\)")


def keep_matrix(
    module: nn.Module, name: str, value: Given, dtype: torch.dtype | None = None
) -> None:
    """Set a matrix argument of a constructor as an attribute: a name, or a square tensor.

    The tensor moves with the module, but is not in its `state_dict`, as no argument of a
    constructor is. `dtype` is the dtype for lists of numbers. Raises `ValueError` for what is not a
    matrix.
    """
    matrix = _checked_matrix(value, name, dtype)
    if isinstance(matrix, str):
        setattr(module, name, matrix)
    else:
        module.register_buffer(name, matrix, persistent=False)


def _checked_matrix(value: Given, name: str, dtype: torch.dtype | None) -> str | Tensor:
    if isinstance(value, str):
        if not MATRIX_NAMES.fullmatch(value.replace(" ", "")):
            raise ValueError(
                f"{name} = {value!r} is no matrix; the names are 'eye', 'ones', 'blocks(g)', "
                "'chunks(k)' and 'interleave(g)'"
            )
        return value.replace(" ", "")
    matrix = value if isinstance(value, Tensor) else torch.tensor(value, dtype=dtype)
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, but its shape is {tuple(matrix.shape)}")
    if bool((matrix < 0).any()):
        raise ValueError(f"{name} has negative entries, and its rows cannot be weights")
    return matrix if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())


def pooling_rows(matrix: str | Tensor, name: str, like: Tensor, length: int) -> Tensor | None:
    """The matrix for an axis of this length, rows scaled to sum to one; `None` for the identity.

    A row that sums to zero is an empty pool: it gives zero, and has no gradient. Raises
    `ShapeError` for a matrix of another size.
    """
    if isinstance(matrix, str) and matrix == "eye":
        return None
    rows = _rows(matrix, name, like, length)
    sums = rows.sum(1, keepdim=True)
    is_empty = sums == 0
    return rows.masked_fill(is_empty, 0) / sums.masked_fill(is_empty, 1)


def _rows(matrix: str | Tensor, name: str, like: Tensor, length: int) -> Tensor:
    """The matrix, with its rows not scaled."""
    if isinstance(matrix, str):
        return structured(matrix, name, length, like)
    if matrix.shape != (length, length):
        shape = " x ".join(map(str, matrix.shape)) or "a single number"
        raise ShapeError(f"{name} is {shape}, but its axis has {length}")
    demand_matrix(matrix, name)
    return matrix.to(dtype=like.dtype, device=like.device)


def structured(matrix: str, name: str, length: int, like: Tensor) -> Tensor:
    """The matrix of a name, in the dtype and on the device of `like`.

    An entry is one if both positions are in the same block. Raises `ShapeError` if an axis of this
    length cannot be cut into such blocks.
    """
    positions = torch.arange(length, device=like.device)
    kind, _, argument = matrix.partition("(")
    if kind == "eye":
        return torch.eye(length, dtype=like.dtype, device=like.device)
    if kind == "ones":
        block = torch.zeros_like(positions)
    else:
        count = int(argument.rstrip(")"))
        if count < 1 or length % count:
            raise ShapeError(f"{name} = {matrix!r}, but its axis has {length} positions")
        block = {
            "blocks": positions * count // max(length, 1),
            "chunks": positions // count,
            "interleave": positions % count,
        }[kind]
    return (block[:, None] == block[None, :]).to(like.dtype)


def rows_mean(value: Tensor, rows: Tensor | None, dim: int) -> Tensor:
    """The mean of each row's pool along `dim`."""
    if rows is None:
        return value
    # Autocast would multiply in half precision, which is not enough for statistics.
    with without_autocast(value):
        pooled: Tensor = torch.tensordot(rows, value, dims=([1], [dim]))
    return pooled.movedim(0, dim)


def rows_var(value: Tensor, rows: Tensor | None, dim: int) -> Tensor:
    """The biased variance of each row's pool along `dim`.

    Every pool has a mean of its own, so that deviations are needed for each pair of positions. For
    float32 it is enough to take squares about the mean of the axis in float64: they round less than
    float32 can hold, however far the pools are from each other.
    """
    if rows is None:
        return torch.zeros_like(value)
    if value.dtype == torch.float64 or value.device.type == "mps":  # mps has no float64
        return _var_by_differences(value, rows, dim)
    value64, rows = value.double(), rows.double()
    centred = value64 - value64.mean(dim, keepdim=True) if value.shape[dim] else value64
    mean = rows_mean(centred, rows, dim)
    squares = rows_mean(centred.square(), rows, dim)
    return (squares - mean.square()).clamp_min(0).to(value.dtype)


def _var_by_differences(value: Tensor, rows: Tensor, dim: int) -> Tensor:
    """The same by deviations, with a tensor of all pairs of positions."""
    value = value.movedim(dim, -1)
    mean = rows_mean(value, rows, value.dim() - 1)
    squares = (value.unsqueeze(-2) - mean.unsqueeze(-1)).square()
    return (squares * rows).sum(-1).movedim(-1, dim)


class Rows(PoolMatrix):
    """A given matrix, for all statistics but mean and variance.

    Rows are weights, and not scaled: sums and counts use them as they are. Raises `ShapeError` for
    a matrix of another size than the axis.
    """

    weighs = True

    def __init__(self, matrix: str | Tensor, name: str, like: Tensor, length: int) -> None:
        self.rows = _rows(matrix, name, like, length)

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The weighted sum of each row's pool."""
        return rows_mean(x, self.rows.to(x.dtype), dim)

    def squares(self, x: Tensor, mean: Tensor, weight: Tensor, dim: int) -> Tensor:
        """The weighted sum of squares about each row's mean: a difference for each pair."""
        x, mean = x.movedim(dim, -1), mean.movedim(dim, -1)
        squared_deviations = (x.unsqueeze(-2) - mean.unsqueeze(-1)).square()
        weights = self.rows.to(x.dtype) * weight.movedim(dim, -1).unsqueeze(-2)
        return (weights * squared_deviations).sum(-1).movedim(-1, dim)

    def largest(self, x: Tensor, dim: int) -> Tensor:
        """The largest value that counts in each row; equal ones share the gradient."""
        pairs = x.movedim(dim, -1).unsqueeze(-2).masked_fill(self.rows == 0, -torch.inf)
        return pools.largest(pairs, (-1,)).movedim(-1, dim)
