"""Every grouping as an explicit dense matrix. It is slow and simple on purpose.

A matrix has one row for each pool, or for each position that has a pool of its own, and one column
for each position of the axis. An entry is the weight of the position in the pool.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from metanorm.ir.aggregation import (
    ByIndex,
    Causal,
    Dense,
    Grouping,
    Neighbours,
    Ones,
    Reach,
    Window,
)
from metanorm.ir.partitions import REGULAR, Blocks, Chunks, Interleave, RegularPartition
from metanorm.ir.scalar import Scalar

F64 = torch.float64
# The cell of each position, and how many cells there are, from the number of a regular partition.
CELLS: Mapping[type[RegularPartition], Callable[[Tensor, int], tuple[Tensor, int]]] = {
    Blocks: lambda position, number: (position // max(len(position) // number, 1), number),
    Chunks: lambda position, number: (position // number, len(position) // number),
    Interleave: lambda position, number: (position % number, number),
}
assert CELLS.keys() == {*REGULAR.values()}, CELLS.keys() ^ {*REGULAR.values()}


@dataclass(frozen=True)
class GroupingData:
    """The data that groupings depend on: indices, edge lists, matrices, group counts, scalars."""

    indices: Mapping[str, Tensor]
    groups: Mapping[str, int]
    matrices: Mapping[str, Tensor | str]
    edges: Mapping[str, Tensor]
    number: Callable[[Scalar], float]


def pooling_matrix(grouping: Grouping, n: int, data: GroupingData) -> tuple[Tensor, int]:
    """The matrix of a grouping of `n` positions, and the number of its padding columns."""
    position = torch.arange(n)
    match grouping:
        case Ones():
            return torch.ones(1, n, dtype=F64), 0
        case RegularPartition(number):
            return one_hot(*CELLS[type(grouping)](position, int(data.number(number)))), 0
        case ByIndex(name):
            return one_hot(data.indices[name], data.groups[name]), 0
        case Dense(name):
            matrix = data.matrices[name]
            return structured(matrix, n) if isinstance(matrix, str) else matrix.to(F64), 0
        case Window(width, edge, within):
            dense, padding = window(n, int(data.number(width)), edge)
            if within is None:
                return dense, padding
            return dense[:, :n] * same_segment(data.indices[within]), 0
        case Causal(width, within):
            reach = n if width is None else int(data.number(width))
            distance = position[:, None] - position[None, :]
            past = ((distance >= 0) & (distance < reach)).to(F64)
            return (past if within is None else past * same_segment(data.indices[within])), 0
        case Reach(distance, ahead, within):
            offset = position[None, :] - position[:, None]
            first, last = (n if end is None else int(data.number(end)) for end in (distance, ahead))
            near = ((offset >= -first) & (offset <= last)).to(F64)
            return (near if within is None else near * same_segment(data.indices[within])), 0
        case Neighbours(name, loop):
            source, target = data.edges[name]
            dense = torch.zeros(n, n, dtype=F64)
            for i, j in zip(target.tolist(), source.tolist()):
                dense[i, j] += 1
            return dense + torch.eye(n, dtype=F64) * loop, 0


def segment_of_position(offsets: Tensor) -> Tensor:
    """The segment of each position, from the offsets of consecutive segments."""
    lengths = [end - start for start, end in zip(offsets.tolist(), offsets.tolist()[1:])]
    segments = [segment for segment, length in enumerate(lengths) for _ in range(length)]
    return torch.tensor(segments, dtype=torch.long)


def same_segment(segments: Tensor) -> Tensor:
    """The matrix of ones for positions of one segment."""
    return (segments[:, None] == segments[None, :]).to(F64)


def one_hot(cells: Tensor, count: int) -> Tensor:
    """The matrix with a row for each cell, from the cell of each position."""
    return (torch.arange(count)[:, None] == cells[None, :]).to(F64)


def structured(name: str, n: int) -> Tensor:
    """A matrix by name: `eye`, `ones`, `blocks(g)`, `chunks(k)`, `interleave(g)`."""
    kind, _, argument = name.partition("(")
    position = torch.arange(n)
    if kind == "eye":
        return torch.eye(n, dtype=F64)
    if kind == "ones":
        return torch.ones(n, n, dtype=F64)
    number = int(argument.rstrip(")"))
    cell, _ = CELLS[REGULAR[kind]](position, number)
    return (cell[:, None] == cell[None, :]).to(F64)


def window(n: int, width: int, edge: str) -> tuple[Tensor, int]:
    """The matrix of centred windows. An even window reaches one further back than ahead."""
    dense = torch.zeros(n, n + 1, dtype=F64)
    for row in range(n):
        for column in range(row - width // 2, row + (width - 1) // 2 + 1):
            inside = 0 <= column < n
            if inside:
                dense[row, column] += 1
            elif edge == "replicate":
                dense[row, min(max(column, 0), n - 1)] += 1
            elif edge == "zero":
                dense[row, n] += 1
    return dense, 1
