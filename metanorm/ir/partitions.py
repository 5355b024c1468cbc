"""Regular partitions of an axis: into pools of one length, whose places do not depend on data.

Each is a class, and all that the compiler knows of it stands here. The oracle has its matrix, and
`metanorm.ir.ops` how a spec writes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from metanorm.ir.scalar import Apply, Const, Scalar


@dataclass(frozen=True)
class RegularPartition:
    """A partition by one number, which has to divide the length of the axis."""

    # As the language writes it. Each class has its own; it is a field so that JSON has it.
    name: str = field(default="", init=False)
    number: Scalar

    counts_pools: ClassVar[bool]  # whether the number is that of the pools, or of positions in each
    is_consecutive: ClassVar[bool]  # whether a pool is one run of positions, or pools take turns

    def __init_subclass__(cls) -> None:
        missing = {"name", "counts_pools", "is_consecutive"} - {*vars(cls)}
        assert not missing, f"{cls.__name__} lacks {missing}"

    def pool_count(self, length: Scalar) -> Scalar:
        """The number of pools of an axis of this length."""
        return self.number if self.counts_pools else Apply("floordiv", (length, self.number))

    def pool_size(self, length: Scalar) -> Scalar:
        """The number of positions in each pool."""
        return Apply("floordiv", (length, self.number)) if self.counts_pools else self.number

    def part_sizes(self, length: Scalar) -> tuple[Scalar, Scalar]:
        """The lengths of the outer and the inner part of the axis. Pools run over one of them."""
        count, size = self.pool_count(length), self.pool_size(length)
        return (count, size) if self.is_consecutive else (size, count)

    def refines(self, coarse: RegularPartition) -> bool:
        """Whether every pool of another partition surely is a union of pools of this one."""
        if type(self) is not type(coarse):
            return False
        few, many = (coarse, self) if self.counts_pools else (self, coarse)
        if not (isinstance(few.number, Const) and isinstance(many.number, Const)):
            return False
        return few.number.value > 0 and many.number.value % few.number.value == 0


class Blocks(RegularPartition):
    """`number` equal consecutive blocks."""

    name = "blocks"
    counts_pools = True
    is_consecutive = True


class Chunks(RegularPartition):
    """Consecutive blocks of `number` positions."""

    name = "chunks"
    counts_pools = False
    is_consecutive = True


class Interleave(RegularPartition):
    """Positions that are equal modulo `number`."""

    name = "interleave"
    counts_pools = True
    is_consecutive = False


REGULAR: Mapping[str, type[RegularPartition]] = {
    kind.name: kind for kind in RegularPartition.__subclasses__()
}
