"""What kernels need of an index or edge list: computed once, as it synchronizes with the GPU."""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Concatenate, ParamSpec, TypeVar

import torch
from torch import Tensor

from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.neighbours import edge_ends
from metanorm.runtime.tensors import is_capturing
from metanorm.runtime.triton import driver

MAX_CACHED = 8  # indices; every layer of a network gets the same one

Operands = Sequence["Tensor | None"]  # of a call
P = ParamSpec("P")
T = TypeVar("T")
IndexFunction = Callable[Concatenate[Tensor, P], T]


@dataclass(frozen=True)
class SortedRows:
    """An operand of a call that is an index, whose rows kernels read group by group."""

    operand: int
    n_groups: int
    keys: ClassVar[tuple[str, str]] = ("starts", "order")

    def tensors(self, operands: Operands) -> tuple[Tensor, Tensor | None]:
        """What kernels are given for the keys."""
        index = operands[self.operand]
        assert index is not None
        return rows_of_groups(index, self.n_groups)


@dataclass(frozen=True)
class SortedEdges:
    """An operand of a call that is an edge list, of which kernels follow the edges of each node:
    those `into` it, or those out of it. With `loop` one leads from each node to itself."""

    name: str
    operand: int
    nodes: int
    loop: bool
    into: bool

    @property
    def keys(self) -> tuple[str, str]:
        """The keys of where the edges of a node start, and of the other ends."""
        prefix = f"links {self.name} {int(self.loop)} {'into' if self.into else 'out'}"
        return f"{prefix} starts", f"{prefix} nodes"

    def tensors(self, operands: Operands) -> tuple[Tensor, Tensor]:
        """What kernels are given for the keys."""
        edges = operands[self.operand]
        assert edges is not None
        return sorted_edges(edges, self.nodes, self.loop, self.into)


def cached_by_version(find: IndexFunction[P, T]) -> IndexFunction[P, T]:
    """The function with a cache: one call for an index, until the index is written to.

    The cache holds no reference to an index. Raises `Unsupported` while a CUDA graph is captured:
    nothing can be read then, and a cached value may be wrong when the graph runs.
    """
    entries: list[tuple[weakref.ref[Tensor], tuple[Any, ...], T]] = []

    def forget(reference_gone: weakref.ref[Tensor]) -> None:
        entries[:] = [entry for entry in entries if entry[0] is not reference_gone]

    @functools.wraps(find)
    def cached(index: Tensor, /, *args: P.args, **named: P.kwargs) -> T:
        if is_capturing(index.device):
            raise Unsupported("an index, and a CUDA graph is captured")
        if index.is_inference():  # whose changes nobody counts
            return find(index, *args, **named)
        version = (index._version, index.data_ptr())
        for tensor, key, value in entries:
            if tensor() is index and key == (*version, args):
                return value
        value = find(index, *args, **named)
        valid = [entry for entry in entries if entry[0]() is not index or entry[1][:-1] == version]
        entries[:] = [*valid, (weakref.ref(index, forget), (*version, args), value)][-MAX_CACHED:]
        return value

    return cached


@cached_by_version
def label_range(index: Tensor) -> tuple[int, int]:
    """The smallest and the largest label, for which the GPU synchronizes."""
    low, high = torch.stack(torch.aminmax(index)).tolist()
    return low, high


def rows_of_groups(index: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    """The offsets of groups among sorted rows, shape [groups + 1], and the order that sorts rows.

    The order is `None` if rows are sorted.
    """
    return _rows(index, count, _stream(index))


def _stream(tensor: Tensor) -> int:
    """The current stream: a value that one stream computes is not ready for another."""
    return driver.stream(tensor.device) if tensor.device.type == "cuda" else 0


@cached_by_version
def _rows(index: Tensor, count: int, stream: int) -> tuple[Tensor, Tensor | None]:
    index = index.reshape(-1).contiguous()  # that of a table may have several dimensions
    order: Tensor | None = None
    ordered = index
    if not bool((index[1:] >= index[:-1]).all()):
        ordered, order = torch.sort(index, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(count + 1, device=index.device))
    return starts, order


def sorted_edges(edges: Tensor, nodes: int, loop: bool, into: bool) -> tuple[Tensor, Tensor]:
    """Edges of shape [2, E], sorted by target (`into`) or by source. Raises as `edge_ends` does.

    Returns where the edges of each node start, shape [nodes + 1], and the other end of each edge,
    shape [E], or [E + nodes] with `loop`, an edge from each node to itself.
    """
    return _edges(edges, nodes, loop, into, _stream(edges))


@cached_by_version
def _edges(edges: Tensor, nodes: int, loop: bool, into: bool, stream: int) -> tuple[Tensor, Tensor]:
    source, target = edge_ends(edges, nodes, loop)
    sorted_by, others = (target, source) if into else (source, target)
    ordered, order = torch.sort(sorted_by, stable=True)
    starts = torch.searchsorted(ordered, torch.arange(nodes + 1, device=edges.device))
    return starts, others[order]
