"""A peer: a layer of another origin that equals a norm of the library."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn

Shape = tuple[int, ...]
Arguments = Mapping[str, Any]
MakeLayer = Callable[[Shape, Arguments], nn.Module]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Package:
    """The origin of layers: its name in reports, for `import` and for pip.

    `by_hand` means that the formulas are our own, on operations of the package.
    """

    name: str
    module: str
    distribution: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    by_hand: bool = False


class NotInstalled(Exception):
    """The package of a layer is not installed."""


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True)
class Peer:
    """A layer that equals a norm of the library.

    `overwrites` means that it modifies the gradient of its output in place. `dtype` is that of its
    parameters, if it differs from the input. `parameters` converts the parameters of the norm to
    those of the layer. `in_eval` says whether it also equals the norm in evaluation: some layers
    keep other running statistics.
    """

    package: Package
    make: MakeLayer
    overwrites: bool = False
    dtype: torch.dtype | None = None
    parameters: Callable[[State], State] = _unchanged
    in_eval: bool = True

    def layer(self, shape: Shape, arguments: Arguments) -> nn.Module:
        """The layer for an input of a shape. Raises `NotInstalled`."""
        if find_spec(self.package.module) is None:
            raise NotInstalled(f"not installed: pip install {self.package.distribution}")
        return self.make(shape, arguments)
