"""Tensors as kernels see them: one length and one stride for each dimension of the spec."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.refusals import Unfit

# The numbers by which `metanorm.h` knows the types.
TYPES: Mapping[torch.dtype, int] = {
    torch.float32: 0,
    torch.float64: 1,
    torch.bfloat16: 2,
    torch.float16: 3,
    torch.bool: 4,
    torch.int64: 5,
}
STREAMED = 6  # a result of the type of the arithmetic that goes past the caches


def known_ranks(
    arguments: Mapping[str, str], tensors: Mapping[str, Sequence[str]], values: Mapping[str, Any]
) -> dict[str, int]:
    """The ranks of groups of axes: from the shapes a function is given, else from the first
    tensor, such as a weight, that has one group alone."""
    known = {dim: len(values[a]) for dim, a in arguments.items() if a in values}
    for name, dims in tensors.items():
        groups = [dim.lstrip("*") for dim in dims if dim.startswith("*")]
        if len(groups) == 1 and isinstance(tensor := values.get(name), Tensor):
            known.setdefault(groups[0], tensor.dim() - len(dims) + 1)
    return known


def ranks_of(dims: Sequence[str], rank: int, known: Mapping[str, int]) -> list[int]:
    """How many dimensions of a tensor each dimension of a spec stands for."""
    found = [known.get(dim.lstrip("*"), -1) if dim.startswith("*") else 1 for dim in dims]
    open_ones = [i for i, r in enumerate(found) if r < 0]
    if len(open_ones) > 1:
        raise Unfit("several groups of unknown rank")
    for i in open_ones:
        found[i] = rank - sum(r for r in found if r > 0)
    if sum(found) != rank or min(found, default=0) < 0:
        raise Unfit("another rank")
    return found


def shapes(
    dims: Sequence[str], shape: Sequence[int], ranks: Sequence[int]
) -> dict[str, tuple[int, ...]]:
    """The lengths behind each dimension of a spec. Raises `Unfit` where one has two."""
    found: dict[str, tuple[int, ...]] = {}
    at = 0
    for dim, rank in zip(dims, ranks):
        own = tuple(shape[at : at + rank])
        if found.setdefault(dim.lstrip("*"), own) != own:
            raise Unfit("a matrix that is not square")
        at += rank
    return found


def strides(tensor: Tensor, ranks: Sequence[int]) -> list[int]:
    """One stride for each dimension of a spec. Raises `Unfit` where the dimensions behind one do
    not lie in one piece."""
    shape, given = tensor.shape, tensor.stride()
    found, at = [], 0
    for rank in ranks:
        group = [(shape[i], given[i]) for i in range(at, at + rank) if shape[i] != 1]
        at += rank
        for (_, outer), (size, inner) in pairwise(group):
            if outer != size * inner:
                raise Unfit("dimensions that do not lie in one piece")
        found.append(group[-1][1] if group else 0)
    return found


def vector_of(
    sizes: Mapping[str, int], dims: Sequence[str], step: Sequence[int], among: Sequence[str]
) -> str:
    """The dimension along which rows lie: the longest one whose elements are neighbours."""

    def worth(name: str) -> tuple[bool, int]:
        place = next(i for i, dim in enumerate(dims) if dim.lstrip("*") == name)
        return (step[place] == 1 and sizes[name] > 1, sizes[name])

    names = [dim.lstrip("*") for dim in dims]
    parts = [name for name in among if name not in names]  # the last part of a split dimension
    among = [name for name in among if name in names]
    neighbours = [name for name in among if worth(name)[0]]
    if neighbours:
        best = max(neighbours, key=lambda name: worth(name)[1])
        between = names[names.index(best) + 1 :]
        for part in parts:
            if part.startswith(f"{best}.") and all(sizes[name] == 1 for name in between):
                return part
        return best
    wide = [name for name in among if sizes[name] > 1]
    return wide[0] if wide else among[0]
