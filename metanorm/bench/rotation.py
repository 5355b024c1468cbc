"""Inputs that take turns, so that no call finds in the cache what the one before it has left."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
from torch import Tensor

from metanorm.bench.clock import MAX_CALLS
from metanorm.verify.cases import Example
from metanorm.verify.layouts import to_device

OutputLayout = tuple[torch.Size, torch.dtype, tuple[int, ...]]  # strides, too


@dataclass(frozen=True)
class CallInputs:
    """The arguments of one call, and those of them that get a gradient."""

    inputs: tuple[Any, ...]
    leaves: tuple[Tensor, ...]


def copy_count(nbytes: int, cache: int) -> int:
    """How many inputs of a size take turns: together they are twice as large as the cache.

    Of small ones there are as many as a lap has calls, and the clock empties the cache before it.
    One is enough where nothing has to be driven out.
    """
    if not cache:
        return 1
    return max(2, min(MAX_CALLS, 1 + -(-2 * cache // max(nbytes, 1))))


class Rotation:
    """Copies of the arguments of a call on a device, and a gradient of the output for each.

    Only numbers that a norm computes with are copied. Indices and masks stay the same tensors, as
    a batch of graphs is for all layers of a network.
    """

    def __init__(self, built: Example, device: str, count: int = 1) -> None:
        same = {n: None if x is None else to_device(x, device) for n, x in built.inputs.items()}
        self.turns = [_call_inputs(same, built.groups, first=not n) for n in range(count)]
        self._slopes: dict[OutputLayout, list[Tensor]] = {}

    def slopes(self, like: Tensor) -> list[Tensor]:
        """Random numbers that lie as an output does, for each turn."""
        key = (like.shape, like.dtype, like.stride())
        if key not in self._slopes:
            self._slopes[key] = [torch.randn_like(like) for _ in self.turns]
        return self._slopes[key]

    def sources(self) -> Iterator[Tensor]:
        """The first input of each turn, again and again: what a copy is timed with."""
        return cycle([turn.inputs[0].detach() for turn in self.turns])


def _call_inputs(
    same: Mapping[str, Tensor | None], groups: Mapping[str, int], first: bool
) -> CallInputs:
    """The arguments in their order: each index is followed by its number of groups."""
    inputs: list[Any] = []
    leaves: list[Tensor] = []
    for name, x in same.items():
        if x is not None and x.is_floating_point():
            x = (x if first else _copy_of(x)).requires_grad_()
            leaves.append(x)
        inputs.append(x)
        if name in groups:
            inputs.append(groups[name] if x is not None else None)
    return CallInputs(tuple(inputs), tuple(leaves))


def _copy_of(x: Tensor) -> Tensor:
    """The same numbers in the same layout, elsewhere."""
    return torch.empty_like(x).copy_(x.detach())
