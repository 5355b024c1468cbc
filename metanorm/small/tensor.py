"""A tensor as a list of numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Tensor:
    """A shape, and the elements in row-major order."""

    shape: Shape
    elements: Sequence[float]

    @classmethod
    def of(cls, shape: Sequence[int], element: Callable[[int], float]) -> Tensor:
        """The tensor of a function of the position in row-major order."""
        return cls(tuple(shape), [element(number) for number in range(math.prod(shape))])

    def __getitem__(self, index: Sequence[int]) -> float:
        return self.elements[raveled(index, self.shape)]

    def rows(self) -> list[Sequence[float]]:
        """The elements of each index of the first dimension."""
        width = math.prod(self.shape[1:])
        return [self.elements[row * width : (row + 1) * width] for row in range(self.shape[0])]


def indices(shape: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Every index of a shape, in row-major order."""
    return product(*map(range, shape))


def raveled(index: Sequence[int], shape: Sequence[int]) -> int:
    """The position of an index in row-major order."""
    number = 0
    for position, length in zip(index, shape):
        number = number * length + position
    return number


def unraveled(number: int, shape: Sequence[int]) -> tuple[int, ...]:
    """The index of a position in row-major order."""
    index = []
    for length in reversed(shape):
        number, position = divmod(number, length)
        index.append(position)
    return tuple(reversed(index))


def gathered(elements: Sequence[float], steps: Sequence[Sequence[int]]) -> list[float]:
    """The elements of a tensor in which position i of dimension d lies `steps[d][i]` further on."""
    positions = [0]
    for steps_of_dimension in steps:
        positions = [position + step for position in positions for step in steps_of_dimension]
    return [elements[position] for position in positions]
