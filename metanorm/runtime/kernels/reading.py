"""Calls as kernels read them: lengths by dimension, and how results are to lie."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, Protocol

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.table import Entry, Field, Table

MANY = 32768  # elements from which on it matters how many statistics there are


@dataclass(frozen=True)
class Span:
    """Some neighbouring dimensions of a tensor of a call, given by its number."""

    tensor: int
    first: int
    last: int


@dataclass(frozen=True)
class Place:
    """A result: how its memory is to lie, and where its address goes in the call.

    `operand` is the number of what it belongs to: its gradient, or the first one. `lengths` says
    where in the tensors of the call each length of a packed result is from; without it, the result
    lies like the operand that it belongs to.
    """

    at: int
    name: str
    operand: int
    wide: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    lengths: tuple[Span, ...] | None = None

    def allocated(self, device: torch.device | str = "cpu") -> Tensor:
        """Memory for it."""
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)


class Prepared(Protocol):
    """A call for one layout, as far as all kernels have that in common."""

    results: list[Place]
    real: torch.dtype

    @property
    def kept(self) -> int:
        """How many numbers of this type are saved for the way back."""


class Reading:
    """How kernels read the tensors of a call, given by name with its numbers.

    `order` has the number of each operand, and `wanted` says which results are. Raises `Unfit`
    where a kernel cannot read them.
    """

    def __init__(
        self, library: Any, table: Table, values: Mapping[str, Any], order: Sequence[str],
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> None:  # fmt: skip
        self.library = library
        self.table = table
        self.values = values
        self.order = {name: number for number, name in enumerate(order)}
        self.wanted = wanted
        self.first = next(iter(table.tensors))
        self.x: Tensor = values[self.first]
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.spans: dict[str, list[Span]] = {}  # of each dimension, in all tensors that have it
        known = layout.known_ranks(table.ranks, table.tensors, values)
        for name, dims in table.tensors.items():
            if isinstance(tensor := values.get(name), Tensor):
                ranks = layout.ranks_of(dims, tensor.dim(), known)
                for dim, shape in layout.shapes(dims, tensor.shape, ranks).items():
                    if self.shapes.setdefault(dim, shape) != shape:
                        raise Unfit("tensors whose shapes do not agree")
                if name == self.first:
                    self.ranks = ranks
                if name in self.order:
                    for dim, span in self.spans_of(self.order[name], dims, ranks).items():
                        self.spans.setdefault(dim, []).append(span)
        self.sizes = {dim: prod(shape) for dim, shape in self.shapes.items()}
        for dim, length in table.lengths.items():
            declared = values.get(length) if isinstance(length, str) else length
            if isinstance(declared, int) and self.sizes.get(dim, declared) != declared:
                raise Unfit("a parameter or a buffer of another length than was declared")
        self.real = torch.float64 if self.x.dtype == torch.float64 else torch.float32

    @staticmethod
    def spans_of(tensor: int, dims: Sequence[str], ranks: Sequence[int]) -> dict[str, Span]:
        """Where in a tensor each of its dimensions is."""
        ends = list(accumulate(ranks))
        return {
            dim.lstrip("*"): Span(tensor, end - rank, end)
            for dim, rank, end in zip(dims, ranks, ends)
        }

    def demand_few(self, cells: Sequence[Sequence[str]]) -> None:
        """Kernels are made for statistics that are few beside the data; those of single elements,
        such as instance statistics of a matrix, are for torch."""
        most = max((prod(self.sizes.get(dim, 1) for dim in dims) for dims in cells), default=1)
        if self.x.numel() > MANY and 4 * most > self.x.numel():
            raise Unfit("statistics of hardly more than one element each")

    def dims_of(self, field: Field) -> tuple[str, ...]:
        """The dimensions of a wide tensor that a kernel reads or writes: as it is declared, else
        as the field says, else those of the first input."""
        name = field.name.removeprefix("to.")
        first = self.table.tensors[self.first]
        if field.kind == "result" and name.startswith("d."):
            return self.table.tensors[name.removeprefix("d.")]
        return field.dims or self.table.tensors.get(name, first)

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype of a tensor of the call; of one that was left out, that of the first input."""
        tensor = self.values.get(name)
        dtype = tensor.dtype if isinstance(tensor, Tensor) else self.x.dtype
        if dtype not in layout.TYPES:
            raise Unfit("a type that kernels do not know")
        return dtype

    def like_output(self, output: str) -> Tensor:
        """The first input, or where an output has another dtype, one without memory that lies
        like it."""
        named = self.table.dtypes.get(output)
        if named is None:
            return self.x
        if named.startswith("torch."):
            dtype: torch.dtype = getattr(torch, named.removeprefix("torch."))
            if dtype not in layout.TYPES:
                raise Unfit("a type that kernels do not know")
        else:
            dtype = self.dtype_of(named)
        return (
            self.x
            if dtype == self.x.dtype
            else torch.empty_like(self.x, dtype=dtype, device="meta")
        )

    def shape_of(self, dims: Sequence[str]) -> list[int]:
        """The shape of a tensor on these dimensions."""
        return [n for dim in dims for n in self.shapes[dim.lstrip("*")]]

    def vector_of(self, entry: Entry) -> str:
        """The dimension along which rows lie."""
        steps = layout.strides(self.x, self.ranks)
        dims = self.table.tensors[self.first]
        return layout.vector_of(self.sizes, dims, steps, list(entry.sections))

    def of(self, entry: Entry) -> Prepared:
        """Everything about calls in one direction that does not change."""
        raise NotImplementedError


def known_number(value: Any, real: torch.dtype) -> float:
    """A hyperparameter; `None` stands for the machine epsilon of the statistics."""
    return torch.finfo(real).eps if value is None else float(value)
