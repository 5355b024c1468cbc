"""Binding the tensors of a call to the dimensions of a spec: lengths, strides, result layouts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from typing import Any, Protocol, Union

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.scalars import Scalar, whole_number
from metanorm.runtime.kernels.table import Field, KernelEntry, Table

MANY = 32768  # elements from which on the number of statistics matters


@dataclass(frozen=True)
class Span:
    """Neighbouring dimensions [first, last) of a tensor of a call, which is given by its number."""

    tensor: int
    first: int
    last: int


@dataclass(frozen=True)
class Groups:
    """The number of groups of an index, an operand of a call that is given by its number."""

    tensor: int
    count: int  # in this call


# A length of a result: that of a dimension of a tensor, that of a part of an axis, or how many
# groups there are.
Length = Union[Span, int, Groups]


@dataclass(frozen=True)
class ResultSlot:
    """A result of a kernel: its layout, and the word of the call that takes its address.

    `operand` is the number of the operand whose gradient it is, or of the first one. `lengths` says
    which dimension of which tensor of the call gives each length of a packed result, or what else
    it is (`Length`); without it, the result has the layout of its operand.
    """

    offset: int
    name: str
    operand: int
    wide: bool
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype
    lengths: tuple[Length, ...] | None = None

    def allocate(self, device: torch.device | str = "cpu") -> Tensor:
        """An uninitialized tensor in this layout."""
        return torch.empty_strided(self.shape, self.strides, dtype=self.dtype, device=device)


class PreparedCall(Protocol):
    """A call for one layout, as far as the kernels of all targets have it in common."""

    results: list[ResultSlot]
    real: torch.dtype  # of statistics: float32 or float64

    @property
    def saved_numel(self) -> int:
        """How many numbers of the dtype `real` are saved for the backward pass."""


class CallBinding:
    """The dimensions of a spec bound to the tensors of one call.

    `values` has the arguments of the call by name, `order` the names of its operands by number, and
    `wanted` says which results are computed. Raises `Unsupported` if a kernel cannot read them.
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
        variadic_ranks = layout.variadic_ranks(table.ranks, table.tensors, values)
        for name, dims in table.tensors.items():
            if isinstance(tensor := values.get(name), Tensor):
                ranks = layout.ranks_of(dims, tensor.dim(), variadic_ranks)
                for dim, shape in layout.shapes_by_dim(dims, tensor.shape, ranks).items():
                    if self.shapes.setdefault(dim, shape) != shape:
                        raise Unsupported("tensors whose shapes do not agree")
                if name == self.first:
                    self.ranks = ranks
                if name in self.order:
                    for dim, span in self.spans_of(self.order[name], dims, ranks).items():
                        self.spans.setdefault(dim, []).append(span)
        for dim, length in table.lengths.items():  # tensors with that dimension may be absent
            count = values.get(length) if isinstance(length, str) else length
            if isinstance(count, int) and self.shapes.setdefault(dim, (count,)) != (count,):
                raise Unsupported("a parameter or a buffer of another length than was declared")
        self.sizes = {dim: prod(shape) for dim, shape in self.shapes.items()}
        for run, place in table.runs.items():
            self._cut(run, *place)
        for dim, scalar in table.computed.items():
            length = self.sizes.setdefault(dim, whole_number(scalar, values, self.sizes))
            self.shapes.setdefault(dim, (length,))
        self.real = torch.float64 if self.x.dtype == torch.float64 else torch.float32

    def edges_dim(self, edges: str) -> str:
        """The dimension of an edge list `[2, E]` that enumerates edges. Raises `Unsupported` if it
        has no pairs."""
        ends, edges_dim = self.table.tensors[edges]
        if self.sizes[ends] != 2:
            raise Unsupported("edges that are no pairs")
        return edges_dim

    def _cut(self, run: str, whole: str, start: Scalar, length: Scalar) -> None:
        """Set the length of a run of positions, and where it starts."""
        numbers = (whole_number(scalar, self.values, self.sizes) for scalar in (start, length))
        first, count = numbers
        if first + count > self.sizes.get(whole, 0):
            raise Unsupported("a run of more positions than there are")
        if self.shapes.setdefault(run, (count,)) != (count,):
            raise Unsupported("a tensor on a run of another length")
        self.sizes |= {run: count, f"{run}.start": first}

    @staticmethod
    def spans_of(tensor: int, dims: Sequence[str], ranks: Sequence[int]) -> dict[str, Span]:
        """The span of each dimension of the spec in a tensor."""
        ends = list(accumulate(ranks))
        return {
            dim.lstrip("*"): Span(tensor, end - rank, end)
            for dim, rank, end in zip(dims, ranks, ends)
        }

    def demand_few(self, cells: Sequence[Sequence[str]]) -> None:
        """Raise `Unsupported` if there are nearly as many statistics as elements.

        Kernels are written for few statistics; those of single elements, such as instance
        statistics of a matrix, are left to torch. `cells` has the dimensions of each statistic.
        """
        max_cells = max((prod(self.sizes.get(dim, 1) for dim in dims) for dims in cells), default=1)
        if self.x.numel() > MANY and 4 * max_cells > self.x.numel():
            raise Unsupported("statistics of hardly more than one element each")

    def dims_of(self, field: Field) -> tuple[str, ...]:
        """The dimensions of a wide tensor that a kernel reads or writes.

        These are the declared ones, else those of the field, else those of the first input.
        """
        name = field.name.removeprefix("to.")
        first = self.table.tensors[self.first]
        if field.kind == "result" and name.startswith("d."):
            return self.table.tensors[name.removeprefix("d.")]
        return field.dims or self.table.tensors.get(name, first)

    def dtype_of(self, name: str) -> torch.dtype:
        """The dtype of a tensor of the call; for one that is absent, that of the first input."""
        tensor = self.values.get(name)
        dtype = tensor.dtype if isinstance(tensor, Tensor) else self.x.dtype
        if dtype not in layout.DTYPE_CODES:
            raise Unsupported("a type that kernels do not know")
        return dtype

    def like_output(self, output: str) -> Tensor:
        """A tensor with the dtype and strides of a wide output.

        That is the first input, or a meta tensor like it if the output has another dtype.
        """
        declared = self.table.dtypes.get(output)
        if declared is None:
            return self.x
        if declared.startswith("torch."):
            dtype: torch.dtype = getattr(torch, declared.removeprefix("torch."))
            if dtype not in layout.DTYPE_CODES:
                raise Unsupported("a type that kernels do not know")
        else:
            dtype = self.dtype_of(declared)
        return (
            self.x
            if dtype == self.x.dtype
            else torch.empty_like(self.x, dtype=dtype, device="meta")
        )

    def shape_of(self, dims: Sequence[str]) -> list[int]:
        """The shape of a tensor on these dimensions."""
        return [n for dim in dims for n in self.shapes[dim.lstrip("*")]]

    def lengths_of(self, dims: Sequence[str]) -> tuple[Length, ...]:
        """Where each length of a packed result comes from. Raises `Unsupported`."""
        lengths: list[Length] = []
        for dim in (dim.lstrip("*") for dim in dims):
            if dim in self.spans:
                span = self.spans[dim][0]
                lengths += [Span(span.tensor, d, d + 1) for d in range(span.first, span.last)]
            elif dim in self.table.computed:
                lengths.append(self._computed_length(dim))
            else:
                raise Unsupported("a result along what no tensor has")
        return tuple(lengths)

    def _computed_length(self, dim: str) -> Length:
        """The length of a dimension that no tensor has."""
        scalar, (length,) = self.table.computed[dim], self.shapes[dim]
        index = scalar.removesuffix(".count") if isinstance(scalar, str) else ""
        is_count = index != scalar and index in self.order
        return Groups(self.order[index], length) if is_count else length

    def vector_dim(self, entry: KernelEntry) -> str:
        """The dimension that the inner loop of a kernel runs along."""
        strides = layout.strides_by_dim(self.x, self.ranks)
        dims = self.table.tensors[self.first]
        return layout.vector_dim(self.sizes, dims, strides, list(entry.sections))

    def prepare(self, entry: KernelEntry) -> PreparedCall:
        """What calls in one direction share. Raises `Unsupported` and `CannotBuild`."""
        raise NotImplementedError


def hyperparameter(value: Any, real: torch.dtype) -> float:
    """The number of a hyperparameter; `None` stands for the machine epsilon of the statistics."""
    return torch.finfo(real).eps if value is None else float(value)
