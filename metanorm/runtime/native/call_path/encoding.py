"""Encodes the structures of `call_path/plan.h`, each as a sequence of 64-bit words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch

from metanorm.runtime.kernels.binding import Groups, Length, ResultSlot, Span

MAX_RANK = 8
MAX_TENSORS = 32
MAX_ARGUMENTS = 48
MAX_WORDS = 128
MAX_FILLS = 96
MAX_GUARDS = 48
MAX_SPANS = 8

# The codes of dtypes in torch's C interface.
DTYPES = {
    torch.uint8: 0, torch.int8: 1, torch.int16: 2, torch.int32: 3, torch.int64: 4,
    torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.bool: 11, torch.bfloat16: 15,
}  # fmt: skip
ANY, DENSE, EXACT = range(3)  # conditions on strides
LIKE, PACKED, AS_GIVEN = range(3)  # layouts of a result


class TooLarge(Exception):
    """More than the structures in C have room for."""


def padded(words: Iterable[int], length: int) -> list[int]:
    """The words, filled up with zeros to a length. Raises `TooLarge`."""
    encoded = list(words)
    if len(encoded) > length:
        raise TooLarge
    return encoded + [0] * (length - len(encoded))


def table(rows: Sequence[Sequence[int]], max_rows: int, width: int) -> list[int]:
    """The number of rows, then their words, `width` of each. Raises `TooLarge`."""
    if any(len(row) != width for row in rows):
        raise TooLarge
    return [len(rows), *padded((word for row in rows for word in row), max_rows * width)]


def bit_set(numbers: Iterable[int]) -> int:
    """A set of small numbers as the bits of one word."""
    return sum(1 << number for number in set(numbers))


def dense_order(sizes: Sequence[int], strides: Sequence[int]) -> list[int] | None:
    """The dimensions of a dense tensor, the innermost one first; `None` if it is not dense."""
    order = sorted(range(len(sizes)), key=lambda d: (strides[d], sizes[d] != 1, -d))
    step = 1
    for d in order:
        if sizes[d] == 0 or (sizes[d] != 1 and strides[d] != step):
            return None
        step *= sizes[d]
    return order


def contiguous_order(rank: int) -> list[int]:
    """The dimensions of a contiguous tensor, the innermost one first."""
    return list(reversed(range(rank)))


@dataclass(frozen=True)
class Layout:
    """A `Layout`: conditions on a tensor. Without dispatch keys, the tensor was not saved."""

    sizes: Sequence[int]
    strides: Sequence[int]
    strides_are: int  # ANY, DENSE or EXACT
    order: Sequence[int] = ()  # DENSE: dimensions, the innermost one first
    ones: int = -1  # DENSE: the set of dimensions of length one; -1: any
    keys: int | None = None
    dtype: torch.dtype = torch.float32
    requires_grad: int = -1  # -1: any

    WIDTH: ClassVar[int] = 7 + 3 * MAX_RANK

    def words(self) -> list[int]:
        """The encoded structure. Raises `TooLarge`, and `KeyError` for a dtype without a code."""
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
    """The condition on sizes and strides under which a plan made for these holds.

    The vector dimension was chosen by the first operand: its order, and its dimensions of length
    one, must be the same. A narrow operand is contiguous. Any other may have any strides, unless a
    result has the layout of this one (`like`). `pinned` asks for exactly these sizes and strides.
    """
    order = dense_order(sizes, strides)
    if pinned or (order is None and (first or like)):
        return Layout(sizes, strides, EXACT)
    if narrow:
        return Layout(sizes, strides, DENSE, contiguous_order(len(sizes)))
    if first or like:
        return Layout(sizes, strides, DENSE, order or (), ones_of(sizes) if first else -1)
    return Layout(sizes, strides, ANY)


def ones_of(sizes: Sequence[int]) -> int:
    """The set of dimensions of length one."""
    return bit_set(d for d, size in enumerate(sizes) if size == 1)


# Lengths of results that no tensor has: as `call_path/plan.h` knows them.
NO_TENSOR, COUNTED = -1, -1


def span_words(span: Span) -> list[int]:
    """An encoded `Span`."""
    return [span.tensor, span.first, span.last]


def length_words(length: Length) -> list[int]:
    """An encoded `Span`, or what stands in its place for a length that no tensor has."""
    match length:
        case Span():
            return span_words(length)
        case Groups(tensor):
            return [tensor, COUNTED, COUNTED]
        case _:
            return [NO_TENSOR, length, length]


RESULT_WORDS = 5 + 5 * MAX_RANK


def result_words(slot: ResultSlot, layout: Layout) -> list[int]:
    """An encoded `Result`; `layout` is that of the operand whose gradient it is."""
    layout_kind = LIKE if slot.lengths is None else PACKED
    if layout_kind == LIKE and layout.strides_are == EXACT:
        layout_kind = AS_GIVEN
    spans = [word for length in slot.lengths or () for word in length_words(length)]
    return [
        slot.operand, DTYPES[slot.dtype], len(slot.shape), layout_kind, slot.operand,
        *padded(spans, 3 * MAX_RANK),
        *padded(slot.shape, MAX_RANK),
        *padded(slot.strides, MAX_RANK),
    ]  # fmt: skip


GUARD_WORDS = 3 + 3 * MAX_SPANS
EQUAL, DIVISIBLE, FEW, AT_MOST, EXACTLY = range(5)


def guard_words(kind: int, spans: Sequence[Span], bound: int = 0) -> list[int]:
    """An encoded `Guard`. Raises `TooLarge`."""
    words = [word for span in spans for word in span_words(span)]
    return [kind, len(spans), *padded(words, 3 * MAX_SPANS), bound]
