"""The structures of `call_path/plan.h` as sequences of 64-bit words, of which they consist."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from metanorm.runtime.kernels.reading import Place, Span

MAX_RANK = 8
MAX_TENSORS = 32
MAX_ARGUMENTS = 48
MAX_WORDS = 128
MAX_FILLS = 96
MAX_GUARDS = 48
MAX_SPANS = 8

# As torch's C interface numbers them.
DTYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4,
    torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
ANY, DENSE, EXACT = range(3)  # what is asked of strides
LIKE, PACKED, AS_GIVEN = range(3)  # how a result lies


class TooLarge(Exception):
    """More than the structures in C have room for."""


def padded(words: Iterable[int], length: int) -> list[int]:
    """The words, and zeros up to this length. Raises `TooLarge`."""
    found = list(words)
    if len(found) > length:
        raise TooLarge
    return found + [0] * (length - len(found))


def table(rows: Sequence[Sequence[int]], most: int, width: int) -> list[int]:
    """Their number, and the words of rows of this width. Raises `TooLarge`."""
    if any(len(row) != width for row in rows):
        raise TooLarge
    return [len(rows), *padded((word for row in rows for word in row), most * width)]


def bits(numbers: Iterable[int]) -> int:
    """A set of small numbers."""
    return sum(1 << number for number in set(numbers))


def dense_order(sizes: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """The dimensions of a tensor that fills its memory, the innermost one first; else `None`."""
    order = sorted(range(len(sizes)), key=lambda d: (strides[d], sizes[d] != 1, -d))
    step = 1
    for d in order:
        if sizes[d] == 0 or (sizes[d] != 1 and strides[d] != step):
            return None
        step *= sizes[d]
    return order


def packed_order(rank: int) -> list[int]:
    """The order of a contiguous tensor of this rank."""
    return list(reversed(range(rank)))


@dataclass(frozen=True)
class Layout:
    """A `Layout`: what a tensor must look like; without dispatch keys, one that was not saved."""

    sizes: Sequence[int]
    strides: Sequence[int]
    strides_are: int
    order: Sequence[int] = ()
    ones: int = -1  # of no matter
    keys: int | None = None
    dtype: torch.dtype = torch.float32
    requires_grad: int = -1  # of no matter

    WIDTH: ClassVar[int] = 7 + 3 * MAX_RANK

    def words(self) -> list[int]:
        """The structure. Raises `TooLarge`, and `KeyError` for a dtype that C has no number of."""
        exact = self.strides_are == EXACT
        return [
            int(self.keys is not None), self.keys or 0, DTYPES[self.dtype], self.requires_grad,
            len(self.sizes), self.strides_are, self.ones,
            *padded(self.order, MAX_RANK),
            *padded(self.sizes if exact else (), MAX_RANK),
            *padded(self.strides if exact else (), MAX_RANK),
        ]  # fmt: skip


def layout_of(
    sizes: Sequence[int], strides: Sequence[int], *, first: bool, narrow: bool, like: bool,
    pinned: bool,
) -> Layout:  # fmt: skip
    """How a tensor has to lie for what was decided about this one to hold.

    The first operand decides along which dimension rows lie, which its order does, and which
    dimensions have one element. A narrow one is contiguous. Another one may lie anyhow, but where
    a result is to lie `like` it.
    """
    order = dense_order(sizes, strides)
    if pinned or (order is None and (first or like)):
        return Layout(sizes, strides, EXACT)
    if narrow:
        return Layout(sizes, strides, DENSE, packed_order(len(sizes)))
    if first or like:
        return Layout(sizes, strides, DENSE, order or (), ones_of(sizes) if first else -1)
    return Layout(sizes, strides, ANY)


def ones_of(sizes: Sequence[int]) -> int:
    """Which dimensions have one element."""
    return bits(d for d, size in enumerate(sizes) if size == 1)


def words_of(span: Span) -> list[int]:
    """A `Span`."""
    return [span.tensor, span.first, span.last]


RESULT = 5 + 5 * MAX_RANK


def result(place: Place, layout: Layout) -> list[int]:
    """A `Result`; the layout is that of the operand that it belongs to."""
    lies = LIKE if place.lengths is None else PACKED
    if lies == LIKE and layout.strides_are == EXACT:
        lies = AS_GIVEN
    spans = [word for span in place.lengths or () for word in words_of(span)]
    return [
        place.operand, DTYPES[place.dtype], len(place.shape), lies, place.operand,
        *padded(spans, 3 * MAX_RANK),
        *padded(place.shape, MAX_RANK),
        *padded(place.strides, MAX_RANK),
    ]  # fmt: skip


GUARD = 3 + 3 * MAX_SPANS
EQUAL, DIVISIBLE, FEW, AT_MOST, EXACTLY = range(5)


def guard(kind: int, spans: Sequence[Span], bound: int = 0) -> list[int]:
    """A `Guard`. Raises `TooLarge`."""
    words = [word for span in spans for word in words_of(span)]
    return [kind, len(spans), *padded(words, 3 * MAX_SPANS), bound]
