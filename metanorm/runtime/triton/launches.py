"""Launches of kernels, and their arguments side by side.

A launch through Triton's dispatcher binds, types and looks up all of its arguments anew. Of those
of a norm only addresses and momenta change from call to call, so that all arguments of all
launches lie in one list, of which each launch picks its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.tensors import LOW, demand_memory

ALIGNED = 64  # elements to which arrays begin in their common memory
BOUNDARY = 15  # bits of an address; kernels are compiled for addresses that have none of them


@dataclass
class Launch:
    """A kernel and its arguments; those at `places` are tensors, or momenta, of the call."""

    kernel: Any
    programs: int
    warps: int
    arguments: list[Any]
    places: list[tuple[int, str]]
    writes: tuple[str, ...]  # a kernel that only writes is left out where nothing is wanted


@dataclass(frozen=True)
class Piece:
    """An array in a memory that it shares with others: its first element there, and its shape."""

    begin: int
    shape: tuple[int, ...]

    def of(self, memory: Tensor) -> Tensor:
        """The array."""
        return memory[self.begin : self.begin + prod(self.shape)].view(self.shape)


def pieces(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Piece]:
    """Arrays one after the other."""
    found, at = {}, 0
    for key, shape in shapes.items():
        found[key] = Piece(at, shape)
        at += -(-prod(shape) // ALIGNED) * ALIGNED
    return found


def room(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The elements of a memory that these arrays share."""
    return sum(-(-prod(shape) // ALIGNED) * ALIGNED for shape in shapes.values())


class Brought(NamedTuple):
    """What one call brings: tensors in their order, momenta, and memory for arrays."""

    given: Sequence[Tensor | None]
    momenta: Sequence[float]
    memory: Sequence[Tensor | None]  # of this call alone, and what is saved for the way back


class Frame:
    """The arguments of all launches of a call in one list.

    `given` has the number of each tensor that a call brings, `arrays` the memory and the piece of
    it for each array, and `constants` the tensors that are the same at every call, if there are
    any. Where a key occurs twice, the first one of these holds.
    """

    def __init__(
        self, launches: Iterable[Launch], constants: Mapping[str, Any], momenta: Sequence[str],
        arrays: Mapping[str, tuple[int, Piece]], given: Mapping[str, int], size: int,
    ) -> None:  # fmt: skip
        self.given, self.arrays, self.constants = given, arrays, constants
        keys = list(dict.fromkeys([*constants, *momenta, *arrays, *given]))
        self.place = {key: place for place, key in enumerate(keys)}
        fixed = {k: c for k, c in constants.items() if k not in arrays and k not in given}
        self.template: list[Any] = [fixed.get(key) for key in keys]
        self.picks = [self._pick(launch) for launch in launches]
        self._given = [(self.place[key], number) for key, number in given.items()]
        self._momenta = [self.place[key] for key in momenta]
        self._arrays = [
            (self.place[key], memory, piece.begin * size)
            for key, (memory, piece) in arrays.items()
            if key not in given
        ]
        self._addresses = [_address(value) for value in self.template]

    def _pick(self, launch: Launch) -> Callable[[list[Any]], tuple[Any, ...]]:
        keys = dict(launch.places)
        places = []
        for at, argument in enumerate(launch.arguments):
            if at in keys:
                places.append(self.place[keys[at]])
            else:
                places.append(len(self.template))
                self.template.append(argument)
        return itemgetter(*places)

    def addresses(self, brought: Brought) -> tuple[list[Any], tuple[int, ...]]:
        """The list with an address for each tensor, and which of those that a call brings do not
        begin where kernels would like them to."""
        frame = self._addresses.copy()
        bits = 0
        given = brought.given
        for place, number in self._given:
            if (tensor := given[number]) is not None:
                frame[place] = address = tensor.data_ptr()
                if address < LOW:
                    demand_memory(tensor)
                bits |= address
        for place, momentum in zip(self._momenta, brought.momenta):
            frame[place] = momentum
        begins = [0 if memory is None else memory.data_ptr() for memory in brought.memory]
        for place, number, offset in self._arrays:
            frame[place] = begins[number] + offset
        if not bits & BOUNDARY:
            return frame, ()
        return frame, tuple(place for place, _ in self._given if (frame[place] or 0) & BOUNDARY)

    def tensors(self, brought: Brought) -> list[Any]:
        """The list with the tensors themselves, as the dispatcher and the interpreter take them."""
        frame = self.template.copy()
        for place, momentum in zip(self._momenta, brought.momenta):
            frame[place] = momentum
        for key in (*self.arrays, *self.given):
            tensor = self.tensor(key, brought)
            demand_memory(tensor)
            flags = tensor is not None and tensor.dtype is torch.bool
            frame[self.place[key]] = tensor.view(torch.uint8) if flags else tensor  # type: ignore[union-attr]
        return frame

    def tensor(self, key: str, brought: Brought) -> Tensor | None:
        """One tensor of a call; `None` where there is none."""
        if key in self.given:
            return brought.given[self.given[key]]
        if key in self.arrays:
            number, piece = self.arrays[key]
            memory = brought.memory[number]
            return None if memory is None else piece.of(memory)
        found: Tensor | None = self.constants.get(key)
        return found


def _address(value: Any) -> Any:
    return value.data_ptr() if isinstance(value, Tensor) else value
