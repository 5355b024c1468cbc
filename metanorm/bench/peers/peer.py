"""A layer that equals a norm of the library: where it is from, and how it is made."""

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
    """Where layers are from: as reports call it, as Python imports it, as pip installs it.

    `by_hand` says that formulas are our own, on operations of the package.
    """

    name: str
    module: str
    distribution: str
    devices: tuple[str, ...] = ("cpu", "cuda")
    by_hand: bool = False


class NotInstalled(Exception):
    """A layer of a package that is not there."""


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True)
class Peer:
    """A layer that computes what a norm of the library computes.

    `overwrites` says that it writes to the gradient that it is given; `dtype` is that of its
    parameters, where they do not have that of the input. `parameters` makes those of the norm, by
    name, into those of the layer, where names or shapes differ. `in_eval` says whether it also
    equals the norm in evaluation: some keep other running statistics.
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
