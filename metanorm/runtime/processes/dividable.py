"""What generated modules say of norms whose axes can be divided, and where it is found.

It stands in a file beside the module, which is found by its name and run when it is first asked
for: what nobody divides costs nothing.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from metanorm.runtime.beside import is_beside, module_beside, name_beside, text_beside

END = "_processes.py"


@dataclass(frozen=True)
class AmongProcesses:
    """A `forward` for a process that has pieces of some axes; messages go over `exchanged`."""

    forward: Callable[..., Any]
    axes: tuple[str, ...]
    exchanged: tuple[str, ...]


@dataclass(frozen=True)
class Dividable:
    """What division among processes makes of a norm.

    `parameters` have the axes of each. `refused` says of an axis why it cannot be divided, `shares`
    which argument of the constructor counts its blocks, `lacking` which output does not have it.
    """

    digest: str
    samples: tuple[str, ...]
    parameters: Mapping[str, tuple[str, ...]]
    refused: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[AmongProcesses, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that can be divided."""
        return tuple(dict.fromkeys(axis for v in self.variants for axis in v.axes))

    def variant(self, axes: frozenset[str]) -> AmongProcesses | None:
        """The first `forward` for these axes and maybe others; `None` where no message is sent."""
        for variant in self.variants:
            if axes <= set(variant.axes):
                return variant if axes & set(variant.exchanged) else None
        return None


def dividable(module: nn.Module) -> Dividable | None:
    """What is known of a module; `None` for one that is no norm of ours, or one of weights."""
    for cls in type(module).__mro__:  # of which sharded training may have derived another
        forward = cls.__dict__.get("forward")
        names = getattr(forward, "__globals__", {})
        if forward is not None and names.get("__file__"):
            package = names.get("__package__") or ""
            found = _norms_beside(names["__file__"], package).get(cls.__name__)
            if found is not None:
                return found
    return None


def outputs_of(module: nn.Module) -> Any:
    """The class of what a norm of several outputs returns."""
    for cls in type(module).__mro__:
        forward = cls.__dict__.get("forward")
        found = getattr(forward, "__globals__", {}).get(f"{cls.__name__}Output")
        if found is not None:
            return found
    return None


@functools.cache
def _norms_beside(module_file: str, package: str) -> Mapping[str, Dividable]:
    name = name_beside(module_file, END)
    if not is_beside(name):
        return {}
    module = module_beside(name, text_beside(name), package)
    found: Mapping[str, Dividable] = module.__dict__["NORMS"]
    return found
