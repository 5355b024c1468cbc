"""Shapes and strides by the dimensions of a spec: one length and one stride for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.errors import Unsupported

# The codes of dtypes in `metanorm.h`.
DTYPE_CODES: Mapping[torch.dtype, int] = {
    torch.float32: 0,
    torch.float64: 1,
    torch.bfloat16: 2,
    torch.float16: 3,
    torch.bool: 4,
    torch.int64: 5,
}
STREAMED = 6  # a result of the dtype of the arithmetic, written past the caches


def variadic_ranks(
    arguments: Mapping[str, str], tensors: Mapping[str, Sequence[str]], values: Mapping[str, Any]
) -> dict[str, int]:
    """How many dimensions of a tensor each variadic dimension (`*S`) stands for.

    A shape argument tells, else the first tensor, such as a weight, that has one variadic
    dimension.
    """
    ranks = {dim: len(values[a]) for dim, a in arguments.items() if a in values}
    for name, dims in tensors.items():
        variadic = [dim.lstrip("*") for dim in dims if dim.startswith("*")]
        if len(variadic) == 1 and isinstance(tensor := values.get(name), Tensor):
            ranks.setdefault(variadic[0], tensor.dim() - len(dims) + 1)
    return ranks


def ranks_of(dims: Sequence[str], rank: int, variadic: Mapping[str, int]) -> list[int]:
    """How many dimensions of a tensor each dimension of a spec stands for.

    Raises `Unsupported` if they do not add up to the rank of the tensor.
    """
    ranks = [variadic.get(dim.lstrip("*"), -1) if dim.startswith("*") else 1 for dim in dims]
    unknown = [i for i, r in enumerate(ranks) if r < 0]
    if len(unknown) > 1:
        raise Unsupported("several groups of unknown rank")
    for i in unknown:
        ranks[i] = rank - sum(r for r in ranks if r > 0)
    if sum(ranks) != rank or min(ranks, default=0) < 0:
        raise Unsupported("another rank")
    return ranks


def shapes_by_dim(
    dims: Sequence[str], shape: Sequence[int], ranks: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """The lengths behind each dimension of a spec. Raises `Unsupported` if one has two."""
    shapes: dict[str, tuple[int, ...]] = {}
    start = 0
    for dim, rank in zip(dims, ranks):
        lengths = tuple(shape[start : start + rank])
        if shapes.setdefault(dim.lstrip("*"), lengths) != lengths:
            raise Unsupported("a matrix that is not square")
        start += rank
    return shapes


def strides_by_dim(tensor: Tensor, ranks: Sequence[int]) -> list[int]:
    """One stride for each dimension of a spec.

    Raises `Unsupported` if the dimensions of the tensor behind one cannot be merged, as `view`
    could not merge them.
    """
    shape, tensor_strides = tensor.shape, tensor.stride()
    strides, start = [], 0
    for rank in ranks:
        merged = [
            (shape[i], tensor_strides[i]) for i in range(start, start + rank) if shape[i] != 1
        ]
        start += rank
        for (_, outer), (size, inner) in pairwise(merged):
            if outer != size * inner:
                raise Unsupported("dimensions that do not lie in one piece")
        strides.append(merged[-1][1] if merged else 0)
    return strides


def vector_dim(
    sizes: Mapping[str, int], dims: Sequence[str], strides: Sequence[int], candidates: Sequence[str]
) -> str:
    """The dimension that the inner loop of a kernel runs along.

    It is the longest candidate of stride one: the last dimension of a contiguous tensor, the
    channels of one in `torch.channels_last`. Where no candidate has stride one, it is the first
    that is longer than one. A part of a dimension comes last: where nothing else can be a row, as
    beside groups of the last dimension.
    """
    names = [dim.lstrip("*") for dim in dims]
    parts = [name for name in candidates if name not in names]  # last part of a split dimension
    candidates = [name for name in candidates if name in names]
    dense = [n for n in candidates if strides[names.index(n)] == 1 and sizes[n] > 1]
    if dense:
        longest = max(dense, key=lambda name: sizes[name])
        inner = names[names.index(longest) + 1 :]
        for part in parts:
            if part.startswith(f"{longest}.") and all(sizes[name] == 1 for name in inner):
                return part
        return longest
    long = [name for name in candidates if sizes[name] > 1]
    return [*long, *candidates, *parts][0]
