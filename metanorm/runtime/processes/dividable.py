"""Norms whose axes can be divided among processes, as generated modules describe them.

The description is in a file beside the module, which is imported when it is first used.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from metanorm.runtime.beside import is_beside, module_beside, name_beside, text_beside

ENDING = "_processes.py"


@dataclass(frozen=True)
class AmongProcesses:
    """A `forward` for pieces of some axes; processes exchange messages along `exchanged`."""

    forward: Callable[..., Any]
    axes: tuple[str, ...]
    exchanged: tuple[str, ...]


@dataclass(frozen=True)
class Dividable:
    """How the axes of a norm can be divided among processes.

    `inputs`, `outputs`, `parameters` and `buffers` have the dimensions of each tensor, with a star
    before what stands for any number of them. By argument of the constructor, `lengths` has the
    axis of which it is the length. By axis, `refused` has the reason why it cannot be divided,
    `shares` the argument that counts its blocks, and `lacking` an output that does not have it;
    `parts` has the axis of which another one enumerates the blocks.
    Pieces of the `aligned` axes must not cut a graph, a block or a run of positions. A norm that
    `adapts` changes buffers in evaluation, too.
    """

    digest: str
    samples: tuple[str, ...]
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[tuple[str, ...], ...]
    parameters: Mapping[str, tuple[str, ...]]
    buffers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    lengths: Mapping[str, str] = field(default_factory=dict)
    parts: Mapping[str, str] = field(default_factory=dict)
    aligned: tuple[str, ...] = ()
    adapts: bool = False
    refused: Mapping[str, str] = field(default_factory=dict)
    shares: Mapping[str, str] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[AmongProcesses, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that can be divided."""
        return tuple(dict.fromkeys(axis for v in self.variants for axis in v.axes))

    def identity(self, owner: str) -> int:
        """The number by which messages tell norms apart: of the norm, and of what owns it."""
        return zlib.crc32(f"{owner} {self.digest}".encode()) & 0x7FFFFFFF

    def variant(self, axes: frozenset[str]) -> AmongProcesses | None:
        """The first `forward` that allows these axes; `None` if it exchanges no message."""
        for variant in self.variants:
            if axes <= set(variant.axes):
                return variant if axes & set(variant.exchanged) else None
        return None


def dividable(module: nn.Module) -> Dividable | None:
    """How a module can be divided; `None` if it is no generated norm, or one for weights."""
    for cls in type(module).__mro__:  # sharded training may have derived a class
        forward = cls.__dict__.get("forward")
        module_globals = getattr(forward, "__globals__", {})
        if forward is not None and module_globals.get("__file__"):
            package = module_globals.get("__package__") or ""
            norm = _norms_beside(module_globals["__file__"], package).get(cls.__name__)
            if norm is not None:
                return norm
    return None


def output_class_of(module: nn.Module) -> Any:
    """The named tuple that a norm of several outputs returns; `None` for one output."""
    for cls in type(module).__mro__:
        forward = cls.__dict__.get("forward")
        output_class = getattr(forward, "__globals__", {}).get(f"{cls.__name__}Output")
        if output_class is not None:
            return output_class
    return None


@functools.cache
def _norms_beside(module_file: str, package: str) -> Mapping[str, Dividable]:
    name = name_beside(module_file, ENDING)
    if not is_beside(name):
        return {}
    module = module_beside(name, text_beside(name), package)
    norms: Mapping[str, Dividable] = module.__dict__["NORMS"]
    return norms
