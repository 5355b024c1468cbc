"""How an axis of fixed length lies on the processes of a group, and what its pieces cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Partition = tuple[str, "str | int"]  # its name in a spec, and its argument: a number, or its name


@dataclass(frozen=True)
class AxisPieces:
    """The lengths of consecutive pieces of an axis, in the order of the processes that have them,
    and which of them is the piece of this process."""

    lengths: tuple[int, ...]
    rank: int

    @property
    def start(self) -> int:
        """The position in the whole axis at which the piece of this process begins."""
        return sum(self.lengths[: self.rank])

    @property
    def length(self) -> int:
        """The length of the piece of this process."""
        return self.lengths[self.rank]

    @property
    def total(self) -> int:
        """The length of the whole axis."""
        return sum(self.lengths)

    def share(self, count: int) -> int:
        """How many of the blocks of the whole axis are in the piece of this process."""
        return self.length * count // max(self.total, 1)

    def labels(self, kind: str, number: int, device: torch.device) -> Tensor:
        """The number of its block for each position of the piece of this process."""
        positions = torch.arange(self.start, self.start + self.length, device=device)
        return PARTITIONS[kind](self.total, number).label(positions)

    def blocks(self, kind: str, number: int) -> int:
        """How many blocks the whole axis has."""
        return PARTITIONS[kind](self.total, number).count

    def cuts(self, partitions: Mapping[Partition, int]) -> bool:
        """Whether a piece has anything but whole blocks; an empty piece has none to compute."""
        blocks = [PARTITIONS[kind](self.total, n).length for (kind, _), n in partitions.items()]
        return any(
            block is None or length == 0 or length % block
            for block in blocks for length in self.lengths
        )  # fmt: skip

    def problem(self, partitions: Mapping[Partition, int]) -> str:
        """Why the whole axis has no such blocks; empty if it has."""
        for number in partitions.values():
            if number < 1 or self.total % number:
                return f"its length of {self.total} on all processes is no multiple of {number}"
        return ""


@dataclass(frozen=True)
class _Blocks:
    """A partition of an axis: how many blocks it has, how long each is if its positions are
    consecutive, and a function from positions to blocks."""

    count: int
    length: int | None
    label: Callable[[Tensor], Tensor]


def _blocks(total: int, count: int) -> _Blocks:
    return _chunks(total, max(total // count, 1), count)


def _chunks(total: int, size: int, count: int | None = None) -> _Blocks:
    blocks = total // size if count is None else count
    return _Blocks(blocks, size, lambda at: at.div(size, rounding_mode="floor"))


def _interleave(total: int, count: int) -> _Blocks:
    return _Blocks(count, None, lambda at: at % count)


PARTITIONS: Mapping[str, Callable[[int, int], _Blocks]] = {
    "blocks": _blocks, "chunks": _chunks, "interleave": _interleave,
}  # fmt: skip


def partitions_of(module: nn.Module, partitions: Sequence[Partition]) -> dict[Partition, int]:
    """The partitions of an axis of a module, each with its number."""
    return {
        (kind, number): number if isinstance(number, int) else getattr(module, number)
        for kind, number in partitions
    }
