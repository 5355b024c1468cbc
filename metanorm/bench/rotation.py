"""Inputs in rotation, so that no call finds its input in the cache after the call before."""

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

OutputLayout = tuple[torch.Size, torch.dtype, tuple[int, ...]]  # shape, dtype, strides


@dataclass(frozen=True)
class CallInputs:
    """The arguments of a call, and those of them that get a gradient."""

    inputs: tuple[Any, ...]
    leaves: tuple[Tensor, ...]


def copy_count(nbytes: int, cache: int) -> int:
    """The number of inputs in rotation: together they are twice as large as the cache.

    Of small inputs there are as many as a lap has calls, since the clock flushes the cache before
    each lap. One suffices if `cache` is 0.
    """
    if not cache:
        return 1
    return max(2, min(MAX_CALLS, 1 + -(-2 * cache // max(nbytes, 1))))


class Rotation:
    """Copies of the arguments of a call on a device, and a gradient of the output for each.

    Only floating-point tensors are copied. Indices and masks are shared, as all layers of a network
    share those of a batch of graphs.
    """

    def __init__(self, example: Example, device: str, count: int = 1) -> None:
        originals = {
            n: None if x is None else to_device(x, device) for n, x in example.inputs.items()
        }
        self.turns = [_call_inputs(originals, example.groups, is_first=not n) for n in range(count)]
        self._grad_outputs: dict[OutputLayout, list[Tensor]] = {}

    def grad_outputs(self, like: Tensor) -> list[Tensor]:
        """A random gradient for each turn, with the layout of an output."""
        key = (like.shape, like.dtype, like.stride())
        if key not in self._grad_outputs:
            self._grad_outputs[key] = [torch.randn_like(like) for _ in self.turns]
        return self._grad_outputs[key]

    def sources(self) -> Iterator[Tensor]:
        """The first inputs of all turns, cyclically, to time copies."""
        return cycle([turn.inputs[0].detach() for turn in self.turns])


def _call_inputs(
    originals: Mapping[str, Tensor | None], groups: Mapping[str, int], is_first: bool
) -> CallInputs:
    """The arguments of a call in order. Each index is followed by its number of groups."""
    inputs: list[Any] = []
    leaves: list[Tensor] = []
    for name, x in originals.items():
        if x is not None and x.is_floating_point():
            x = (x if is_first else _copy_of(x)).requires_grad_()
            leaves.append(x)
        inputs.append(x)
        if name in groups:
            inputs.append(groups[name] if x is not None else None)
    return CallInputs(tuple(inputs), tuple(leaves))


def _copy_of(x: Tensor) -> Tensor:
    """A copy with the same layout."""
    return torch.empty_like(x).copy_(x.detach())
