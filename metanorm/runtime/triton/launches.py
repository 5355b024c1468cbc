"""Launches of kernels, with the arguments of all of them in one list.

Triton's dispatcher binds, types and looks up all arguments of a launch. Only addresses and momenta
change from one call of a norm to the next. So all arguments of all launches are in one list, from
which each launch picks its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from operator import itemgetter
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.tensors import LOWEST_ADDRESS, demand_memory

ALIGNMENT = 64  # elements; every array of an arena begins at a multiple
MISALIGNED_BITS = 15  # of an address; kernels are specialised to addresses without them


@dataclass
class Launch:
    """A kernel and its arguments; those at `keys` are tensors or momenta of the call."""

    kernel: Any
    programs: int
    warps: int
    arguments: list[Any]
    keys: list[tuple[int, str]]  # positions in `arguments`, and what stands there
    writes: tuple[str, ...]  # of a kernel that only writes: not launched if none is wanted


@dataclass(frozen=True)
class ArenaSlice:
    """An array in an arena, one allocation for several arrays: its first element, its shape."""

    begin: int
    shape: tuple[int, ...]

    def view(self, arena: Tensor) -> Tensor:
        """The array as a view of the arena."""
        return arena[self.begin : self.begin + prod(self.shape)].view(self.shape)


def arena_slices(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, ArenaSlice]:
    """The slices of arrays that follow each other in an arena."""
    slices, begin = {}, 0
    for key, shape in shapes.items():
        slices[key] = ArenaSlice(begin, shape)
        begin += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
    return slices


def arena_numel(shapes: Mapping[str, tuple[int, ...]]) -> int:
    """The number of elements of an arena for these arrays."""
    return sum(-(-prod(shape) // ALIGNMENT) * ALIGNMENT for shape in shapes.values())


class CallInputs(NamedTuple):
    """The tensors of one call in their order, its momenta, and its arenas."""

    tensors: Sequence[Tensor | None]
    momenta: Sequence[float]
    arenas: Sequence[Tensor | None]  # that of this call alone, and that saved for the backward pass


class ArgumentBlock:
    """The arguments of all launches of a call, in one list.

    `tensors` has the number of each tensor of a call, `arrays` the arena and the slice of each
    array, and `constants` the tensors that are the same in every call. A key may be in several of
    these: `tensors` come first, then `arrays`.
    """

    def __init__(
        self, launches: Iterable[Launch], constants: Mapping[str, Any], momenta: Sequence[str],
        arrays: Mapping[str, tuple[int, ArenaSlice]], tensors: Mapping[str, int], itemsize: int,
    ) -> None:  # fmt: skip
        self.numbers, self.arrays, self.constants = tensors, arrays, constants
        keys = list(dict.fromkeys([*constants, *momenta, *arrays, *tensors]))
        self.position = {key: position for position, key in enumerate(keys)}
        fixed = {k: c for k, c in constants.items() if k not in arrays and k not in tensors}
        self.template: list[Any] = [fixed.get(key) for key in keys]
        self.picks = [self._pick(launch) for launch in launches]
        self._tensors = [(self.position[key], number) for key, number in tensors.items()]
        self._momenta = [self.position[key] for key in momenta]
        self._arrays = [
            (self.position[key], arena, slice_.begin * itemsize)
            for key, (arena, slice_) in arrays.items()
            if key not in tensors
        ]
        self._addresses = [_address(value) for value in self.template]

    def _pick(self, launch: Launch) -> Callable[[list[Any]], tuple[Any, ...]]:
        """A function that picks the arguments of a launch; adds its constants to the list."""
        keys = dict(launch.keys)
        positions = []
        for number, argument in enumerate(launch.arguments):
            if number in keys:
                positions.append(self.position[keys[number]])
            else:
                positions.append(len(self.template))
                self.template.append(argument)
        return itemgetter(*positions)

    def addresses(self, inputs: CallInputs) -> tuple[list[Any], tuple[int, ...]]:
        """The list with the address of each tensor, and the positions of misaligned tensors."""
        arguments = self._addresses.copy()
        bits = 0
        tensors = inputs.tensors
        for position, number in self._tensors:
            if (tensor := tensors[number]) is not None:
                arguments[position] = address = tensor.data_ptr()
                if address < LOWEST_ADDRESS:
                    demand_memory(tensor)
                bits |= address
        for position, momentum in zip(self._momenta, inputs.momenta):
            arguments[position] = momentum
        arena_addresses = [0 if arena is None else arena.data_ptr() for arena in inputs.arenas]
        for position, number, offset in self._arrays:
            arguments[position] = arena_addresses[number] + offset
        if not bits & MISALIGNED_BITS:
            return arguments, ()
        misaligned = tuple(p for p, _ in self._tensors if (arguments[p] or 0) & MISALIGNED_BITS)
        return arguments, misaligned

    def values(self, inputs: CallInputs) -> list[Any]:
        """The list with the tensors themselves, as the dispatcher and the interpreter take them."""
        arguments = self.template.copy()
        for position, momentum in zip(self._momenta, inputs.momenta):
            arguments[position] = momentum
        for key in (*self.arrays, *self.numbers):
            tensor = self.tensor(key, inputs)
            demand_memory(tensor)
            is_mask = tensor is not None and tensor.dtype is torch.bool
            arguments[self.position[key]] = tensor.view(torch.uint8) if is_mask else tensor  # type: ignore[union-attr]
        return arguments

    def tensor(self, key: str, inputs: CallInputs) -> Tensor | None:
        """One tensor of a call; `None` if it is absent."""
        if key in self.numbers:
            return inputs.tensors[self.numbers[key]]
        if key in self.arrays:
            number, slice_ = self.arrays[key]
            arena = inputs.arenas[number]
            return None if arena is None else slice_.view(arena)
        constant: Tensor | None = self.constants.get(key)
        return constant


def _address(value: Any) -> Any:
    return value.data_ptr() if isinstance(value, Tensor) else value
