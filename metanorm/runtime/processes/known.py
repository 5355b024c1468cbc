"""What generated modules say of norms whose axes can be divided, and where it is found.

It stands in a file beside the module, which is found by its name and run when it is first asked
for: what nobody divides costs nothing.
"""

from __future__ import annotations

import functools
import itertools
import linecache
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

END = "_processes.py"
_number = itertools.count()  # modules of one name may come from several folders


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
    name = f"{module_file.removesuffix('.py')}{END}"
    if name in linecache.cache:  # of a module that was never written
        text = "".join(linecache.getlines(name))
    elif Path(name).is_file():
        text = Path(name).read_text(encoding="utf-8")
    else:
        return {}
    unique = f"metanorm_processes_{next(_number)}_{Path(name).stem.strip('<>')}"
    module = ModuleType(unique)
    module.__file__ = name
    module.__package__ = package  # which may have a runtime of its own
    sys.modules[unique] = module
    exec(compile(text, name, "exec"), module.__dict__)
    found: Mapping[str, Dividable] = module.__dict__["NORMS"]
    return found
