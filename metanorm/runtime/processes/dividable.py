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
from metanorm.runtime.processes.axis_pieces import AxisPieces, Partition

ENDING = "_processes.py"


@dataclass(frozen=True)
class AmongProcesses:
    """A `forward` for pieces of some axes; processes exchange messages along `exchanged`. One that
    `cuts` takes pieces that have parts of blocks."""

    forward: Callable[..., Any]
    axes: tuple[str, ...]
    exchanged: tuple[str, ...]
    cuts: bool = False

    def sends(self, axes: frozenset[str]) -> bool:
        """Whether there are messages where these axes are divided."""
        return bool(axes & set(self.exchanged))


@dataclass(frozen=True)
class Dividable:
    """How the axes of a norm can be divided among processes.

    `inputs`, `outputs`, `parameters` and `buffers` have the dimensions of each tensor, with a star
    before what stands for any number of them. By argument of the constructor, `lengths` has the
    axis of which it is the length. By axis, `refused` has the reason why it cannot be divided,
    `shares` the argument that counts its blocks, and `lacking` an output that does not have it;
    `blocks` has the partitions whose blocks pieces may cut, each with its number or the argument
    that has it; `parts` has the axis of which another one enumerates the blocks.
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
    blocks: Mapping[str, tuple[Partition, ...]] = field(default_factory=dict)
    lacking: Mapping[str, str] = field(default_factory=dict)
    variants: tuple[AmongProcesses, ...] = ()

    @property
    def axes(self) -> tuple[str, ...]:
        """The axes that can be divided."""
        return tuple(dict.fromkeys(axis for v in self.variants for axis in v.axes))

    def identity(self, owner: str) -> int:
        """The number by which messages tell norms apart: of the norm, and of what owns it."""
        return zlib.crc32(f"{owner} {self.digest}".encode()) & 0x7FFFFFFF

    def length_argument(self, axis: str) -> str | None:
        """The argument of the constructor that is the length of an axis, if there is one."""
        return next((name for name, other in self.lengths.items() if other == axis), None)

    def partitions(self, axis: str) -> tuple[Partition, ...]:
        """The partitions of an axis into blocks."""
        shared = (("blocks", self.shares[axis]),) if axis in self.shares else ()
        return self.blocks.get(axis, shared)

    def with_whole_axes(
        self, module: nn.Module, pieces_by_axis: Mapping[str, AxisPieces]
    ) -> Mapping[str, AxisPieces]:
        """The pieces of axes, and those of axes with blocks of which this process has the whole."""
        whole = {
            axis: self.length_argument(axis) for axis in self.blocks if axis not in pieces_by_axis
        }
        lengths = {axis: getattr(module, name) for axis, name in whole.items() if name is not None}
        return {
            **pieces_by_axis,
            **{axis: AxisPieces((length,), 0) for axis, length in lengths.items()},
        }

    def variant(self, axes: frozenset[str], cut: bool = False) -> AmongProcesses | None:
        """The first `forward` that allows these axes, and blocks to be `cut`."""
        fitting = (v for v in self.variants if axes <= set(v.axes) and (v.cuts or not cut))
        return next(fitting, None)


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
