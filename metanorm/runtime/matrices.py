"""Pooling by a given matrix: row r says how much each position counts for position r."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Union

import torch
from torch import Tensor

from metanorm.runtime.errors import ShapeError

Given = Union[str, Tensor, Sequence[Sequence[float]]]

STRUCTURED = re.compile(r"eye|ones|(blocks|chunks|interleave)\((\d+)\)")


def check_matrix(given: Given, name: str) -> str | Tensor:
    """A constructor argument as a matrix: a name, nested lists, or a square tensor.

    Raises `ValueError` for anything else.
    """
    if isinstance(given, str):
        if not STRUCTURED.fullmatch(given.replace(" ", "")):
            raise ValueError(
                f"{name} = {given!r} is no matrix; the names are 'eye', 'ones', 'blocks(g)', "
                "'chunks(k)' and 'interleave(g)'"
            )
        return given.replace(" ", "")
    matrix = torch.as_tensor(given)
    if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"{name} must be a square matrix, but its shape is {tuple(matrix.shape)}")
    return matrix if matrix.is_floating_point() else matrix.to(torch.get_default_dtype())


def pooling_rows(given: str | Tensor, name: str, like: Tensor, length: int) -> Tensor | None:
    """The matrix for an axis of this length, rows scaled to sum to one; `None` for the identity.

    A row that sums to zero pools nothing and gives zero. Raises `ShapeError` where the length
    does not fit.
    """
    if isinstance(given, str):
        if given == "eye":
            return None
        rows = _structured(given, name, length, like)
    else:
        if given.shape[0] != length:
            raise ShapeError(
                f"{name} is {given.shape[0]} x {given.shape[1]}, but its axis has {length}"
            )
        rows = given.to(dtype=like.dtype, device=like.device)
    sums = rows.sum(1, keepdim=True)
    return rows / sums.masked_fill(sums == 0, 1)


def _structured(given: str, name: str, length: int, like: Tensor) -> Tensor:
    position = torch.arange(length, device=like.device)
    kind, _, argument = given.partition("(")
    if kind == "ones":
        cell = torch.zeros_like(position)
    else:
        number = int(argument.rstrip(")"))
        if number < 1 or length % number:
            raise ShapeError(f"{name} = {given!r}, but its axis has {length} positions")
        cell = {
            "blocks": position * number // max(length, 1),
            "chunks": position // number,
            "interleave": position % number,
        }[kind]
    return (cell[:, None] == cell[None, :]).to(like.dtype)


def rows_mean(value: Tensor, rows: Tensor | None, dim: int) -> Tensor:
    """The mean of each row's pool along `dim`."""
    if rows is None:
        return value
    pooled: Tensor = torch.tensordot(rows, value, dims=([1], [dim]))
    return pooled.movedim(0, dim)


def rows_var(value: Tensor, rows: Tensor | None, dim: int) -> Tensor:
    """The biased variance of each row's pool along `dim`.

    Centred on the plain mean first: what is left to cancel is only the distance of a pool's mean
    from that, and rounding cannot make the result negative.
    """
    if rows is None:
        return torch.zeros_like(value)
    centred = value - value.mean(dim, keepdim=True) if value.shape[dim] else value
    average = rows_mean(centred, rows, dim)
    return (rows_mean(centred.square(), rows, dim) - average.square()).clamp_min(0)
