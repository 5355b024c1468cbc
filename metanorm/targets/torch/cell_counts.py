"""Print how many cells a partition of an axis has."""

from __future__ import annotations

from collections.abc import Callable

from metanorm.ir.aggregation import ByIndex, Grouping
from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import Scalar, SizeOf
from metanorm.targets.python.pyir import Attribute, Expr


def cell_count(
    cells_of: tuple[str, Grouping], number: Callable[[Scalar], Expr], groups: Callable[[str], Expr]
) -> Expr:
    """The number of cells of a partition of an axis.

    `number` prints a scalar, which may be the length of the axis, and `groups` the groups of an
    index.
    """
    axis, grouping = cells_of
    match grouping:
        case RegularPartition():
            return number(grouping.pool_count(SizeOf(axis)))
        case ByIndex(index):
            return Attribute(groups(index), "count")
        case _:
            raise TypeError(f"{grouping} has no cells")
