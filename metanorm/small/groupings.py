"""Groupings as lists of rows: which positions of an axis a pool holds, with which weights."""

from __future__ import annotations

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
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import Const
from metanorm.small.call import Call

Row = dict[int, float]  # the weight of each position that a pool holds


def cells(grouping: Grouping, n: int, call: Call) -> tuple[list[int], int]:
    """The cell of each of `n` positions by a partition, and the number of cells."""
    match grouping:
        case Ones():
            return [0] * n, 1
        case RegularPartition():
            count = int(call.number(grouping.pool_count(Const(n))))
            size = int(call.number(grouping.pool_size(Const(n))))
            if grouping.is_consecutive:
                return [position // size for position in range(n)], count
            return [position % count for position in range(n)], count
        case ByIndex(name):
            return call.cells_of_index(name)
    raise NotImplementedError(f"{grouping} is no partition")


def pool_rows(grouping: Grouping, n: int, call: Call) -> list[Row]:
    """The row of each pool of `n` positions. Position `n` is a zero beyond the border."""
    match grouping:
        case Dense(name):
            return [dict(enumerate(row)) for row in call.matrix(name).rows()]
        case Window(width, edge, within):
            windows = [_window(row, n, int(call.number(width)), edge) for row in range(n)]
            return _cut(windows, within, call)
        case Causal(width, within):
            reach = n if width is None else int(call.number(width))
            pasts = [dict.fromkeys(range(max(0, i - reach + 1), i + 1), 1.0) for i in range(n)]
            return _cut(pasts, within, call)
        case Reach(back, ahead, within):
            first, last = (n if end is None else int(call.number(end)) for end in (back, ahead))
            ranges = [range(max(0, i - first), min(n, i + last + 1)) for i in range(n)]
            return _cut([dict.fromkeys(positions, 1.0) for positions in ranges], within, call)
        case Neighbours(name, loop):
            return neighbours(name, loop, n, call)
    cell_of_position, count = cells(grouping, n, call)
    rows: list[Row] = [{} for _ in range(count)]
    for position, cell in enumerate(cell_of_position):
        rows[cell][position] = 1.0
    return rows


def _cut(rows: list[Row], offsets: str | None, call: Call) -> list[Row]:
    """The pool of each position, without positions of other segments."""
    if offsets is None:
        return rows
    segments, _ = call.cells_of_index(offsets)
    return [
        {position: weight for position, weight in row.items() if segments[position] == segments[at]}
        for at, row in enumerate(rows)
    ]


def neighbours(edges: str, loop: bool, n: int, call: Call) -> list[Row]:
    """For each of `n` nodes, how many edges lead to it from which nodes."""
    rows: list[Row] = [{node: 1.0} if loop else {} for node in range(n)]
    sources, targets = call.tensor(edges).rows()
    for source, target in zip(map(int, sources), map(int, targets)):
        rows[target][source] = rows[target].get(source, 0.0) + 1.0
    return rows


def _window(row: int, n: int, width: int, edge: str) -> Row:
    """A centred window. An even window reaches one further back than ahead."""
    weights: Row = {}
    for column in range(row - width // 2, row + (width - 1) // 2 + 1):
        inside = 0 <= column < n
        if inside or edge != "truncate":
            nearest = min(max(column, 0), n - 1)
            position = nearest if inside or edge == "replicate" else n
            weights[position] = weights.get(position, 0.0) + 1.0
    return weights
