"""Aggregations: one grouping for each pooled axis, and properties of groupings alone.

A grouping is a matrix with a row for each pool, which holds the weights of the positions of the
axis. *Partitions* are groupings into disjoint pools. A statistic over a partition is constant on
each pool, so the IR has one value for each: a cell.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from metanorm.ir.partitions import RegularPartition
from metanorm.ir.scalar import Scalar, scalar_text


@dataclass(frozen=True, slots=True)
class Ones:
    """One pool of all positions."""


@dataclass(frozen=True, slots=True)
class ByIndex:
    """Positions for which the index input holds the same value."""

    index: str


@dataclass(frozen=True, slots=True)
class Dense:
    """The rows of a given matrix, each scaled to sum to one."""

    matrix: str


@dataclass(frozen=True, slots=True)
class Window:
    """A centred window of `width`; `edge` says what lies beyond the border.

    It ends with the segment of its position where `within` names offsets.
    """

    width: Scalar
    edge: str
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Causal:
    """This position and the ones before it, `width` in all where it is given.

    It begins with the segment of its position where `within` names offsets.
    """

    width: Scalar | None
    within: str | None = None


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The in-neighbours that an edge list names, and the node itself where `loop`."""

    edges: str
    loop: bool


@dataclass(frozen=True, slots=True)
class Reach:
    """The positions from `back` before this one to `ahead` after it, cut at the borders.

    `None` reaches to the border. Where `within` names offsets, the borders are those of the segment
    of the position. Kernels have windows of any edge as scans over these (`metanorm.passes.scans`).
    """

    back: Scalar | None
    ahead: Scalar | None
    within: str | None = None

    @property
    def mirrored(self) -> Reach:
        """The transpose: for each position, the positions whose reach contains it."""
        return Reach(self.ahead, self.back, self.within)


Grouping = Union[Ones, RegularPartition, ByIndex, Dense, Window, Causal, Neighbours, Reach]
Aggregation = tuple[tuple[str, Grouping], ...]  # (axis, grouping), axes in the order of the program

# Groupings into disjoint pools that cover the axis, other than the single pool of `Ones`.
PARTITIONS = (RegularPartition, ByIndex)
# Groupings with a pool for each position, which overlaps with others.
OVERLAPPING = (Window, Causal, Neighbours, Reach)


def is_partition(grouping: Grouping) -> bool:
    """Whether the pools of a grouping are disjoint and cover the axis."""
    return isinstance(grouping, (Ones, *PARTITIONS))


def segments_of(grouping: Grouping) -> str | None:
    """The offsets whose segments the windows of a grouping stay within."""
    return grouping.within if isinstance(grouping, (Window, Causal, Reach)) else None


def index_of(grouping: Grouping) -> str | None:
    """The index input that a grouping reads."""
    return grouping.index if isinstance(grouping, ByIndex) else segments_of(grouping)


def refines(fine: Grouping | None, coarse: Grouping) -> bool:
    """Whether every pool of `coarse` is a union of pools of `fine`; `None` is one pool each."""
    if fine is None or fine == coarse or (isinstance(coarse, Ones) and is_partition(fine)):
        return True
    if not (isinstance(fine, RegularPartition) and isinstance(coarse, RegularPartition)):
        return False
    return fine.refines(coarse)


def pool_size(grouping: Grouping, length: Scalar) -> Scalar:
    """The number of positions in each pool of an axis; all of them if it is not regular."""
    return grouping.pool_size(length) if isinstance(grouping, RegularPartition) else length


def grouping_text(grouping: Grouping) -> str:
    """The grouping as the language writes it."""
    match grouping:
        case Ones():
            return "ones"
        case RegularPartition(number):
            return f"{grouping.name}({scalar_text(number)})"
        case ByIndex(name) | Dense(name):
            return name
        case Window(width, edge, within):
            return f"window({scalar_text(width)}, edge = {edge})" + _within_text(within)
        case Causal(width, within):
            return (f"causal({scalar_text(width)})" if width else "causal") + _within_text(within)
        case Neighbours(name, loop):
            return f"{name} with self" if loop else name
        case Reach(back, ahead, within):
            ends = ("all" if end is None else scalar_text(end) for end in (back, ahead))
            return "reach({}, {})".format(*ends) + _within_text(within)


def _within_text(within: str | None) -> str:
    return f" within {within}" if within else ""
