"""Print how many cells a partition of an axis has."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.ir.aggregation import Blocks, ByIndex, Chunks, Grouping, Interleave
from metanorm.ir.scalar import Scalar
from metanorm.targets.python.pyir import Attribute, Binary, Expr


def cell_count(
    grouping: Grouping,
    length: Callable[[], Expr],
    number: Callable[[Scalar], Expr],
    groups: Callable[[str], Expr],
) -> Expr:
    """The number of cells of a partition of an axis.

    `length` prints the length of the axis, `number` a scalar, and `groups` the groups of an index.
    """
    match grouping:
        case Blocks(count) | Interleave(count):
            return number(count)
        case Chunks(width):
            return Binary("//", (length(), number(width)))
        case ByIndex(index):
            return Attribute(groups(index), "count")
        case _:
            raise TypeError(f"{grouping} has no cells")
