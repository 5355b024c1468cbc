"""Binds the tensors of a call to the structure that a kernel in C takes."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.binding import (
    CallBinding,
    Length,
    ResultSlot,
    Span,
    hyperparameter,
)
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.layout import DTYPE_CODES, STREAMED
from metanorm.runtime.kernels.table import Field, KernelEntry
from metanorm.runtime.native.calls import KernelLibrary, LayoutWord, PreparedKernel, macros
from metanorm.runtime.native.machine import last_level_cache

CACHE_LINE = 64  # bytes
LONG_ROW = 512  # bytes; of such a row, the lines that it fills in part are few


class NativeBinding(CallBinding):
    """Fills in the structure of a call, for the kernel of one direction."""

    library: KernelLibrary

    def prepare(self, entry: KernelEntry) -> PreparedKernel:
        """What all calls of a kernel with this layout share. Raises `CannotBuild`."""
        self.inner_dim = self.vector_dim(entry)
        self.pointers: list[tuple[int, int]] = []
        self.momenta: list[int] = []
        self.results: list[ResultSlot] = []
        self.saved_offset = 0
        self.constants: list[Tensor] = []
        self.layout_words: list[LayoutWord] = []
        self.exceeds_cache = False
        format_ = "=q"
        template: list[Any] = [1]
        for field in entry.fields:
            words = self._field_words(field, len(template))
            template += words
            format_ += "d" if field.kind in ("number", "momentum") else "q" * len(words)
        pack = struct.Struct(format_).pack
        dtypes = {name: self.dtype_of(name) for name in entry.dtypes}
        library = self.library.section(macros(entry.sections[self.inner_dim], self.real, dtypes))
        saves = self.saved_offset and hasattr(library, "kept")
        saved_bytes = library.kept(pack(*template)) if saves else 0
        return PreparedKernel(
            function=library.forward if hasattr(library, "forward") else library.backward,
            pack=pack,
            template=template,
            pointers=self.pointers,
            momenta=self.momenta,
            results=self.results,
            constants=self.constants,
            saved_numel=saved_bytes // self.real.itemsize,
            saved_offset=self.saved_offset,
            real=self.real,
            library=library,
            layout_words=self.layout_words,
            spans=self.spans,
            exceeds_cache=self.exceeds_cache,
        )

    def _field_words(self, field: Field, offset: int) -> list[Any]:
        """The words of a field from an offset on, with zeros for what differs from call to call."""
        match field.kind:
            case "size":
                self._read_length(offset, field.name)
                return [self.sizes.get(field.name, 0)]
            case "groups":
                return self._group_words(field, offset)
            case "number":
                return [hyperparameter(self.values[field.name], self.real)]
            case "momentum":
                self.momenta.append(offset)
                return [0.0]
            case "edges":
                return self._edge_words(field, offset)
            case "saved":
                self.saved_offset = offset
                return [0]
            case _ if field.name.startswith("to."):
                return self._result_words(field, offset)
            case _:
                return self._operand_words(field, offset)

    def _read_length(self, offset: int, dim: str) -> None:
        """Let other calls read the length of a dimension from the first tensor that has it."""
        for span in self.spans.get(dim, ())[:1]:
            self.layout_words.append(LayoutWord(offset, "size", span))

    def _group_words(self, field: Field, offset: int) -> list[Any]:
        """The number of groups of an index: the length of its table, if it has one."""
        index = field.name.removesuffix(".count")
        if index in self.table.tables:
            self._read_length(offset, self.table.tables[index])
        elif index in self.order:
            span = Span(self.order[index], 0, 0)
            self.layout_words.append(LayoutWord(offset, "count", span))
        return [self.values[field.name]]

    def _edge_words(self, field: Field, offset: int) -> list[Any]:
        """The pointer, the dtype and the number of edges."""
        edges = self.edges_dim(field.name)
        self.pointers.append((offset, self.order[field.name]))
        self.layout_words.append(LayoutWord(offset + 2, "size", self.spans[edges][0]))
        return [0, DTYPE_CODES[torch.int64], self.sizes[edges]]

    def _operand_words(self, field: Field, offset: int) -> list[int]:
        """The pointer and the dtype of a tensor, and the strides of a wide one."""
        if field.name in self.order:
            self.pointers.append((offset, self.order[field.name]))
        tensor = self.values.get(field.name)
        if tensor is not None and field.kind != "wide" and not tensor.is_contiguous():
            raise Unsupported("a narrow tensor that does not lie in one piece")
        is_buffer = field.name in self.table.buffers and tensor is not None
        if is_buffer and not tensor.is_floating_point():  # type: ignore[union-attr]
            raise Unsupported("a buffer that cannot hold what is kept in it")
        if tensor is not None and field.name not in self.order:  # the same in every call
            return [tensor.data_ptr(), _dtype_code(tensor)]
        if field.kind == "wide" and tensor is None and field.name in self.table.defaults:
            return self._absent_input(field.name)
        if field.kind == "wide":
            strides = self._strides(tensor, self.dims_of(field), offset, self.order.get(field.name))  # type: ignore[arg-type]
            return [0, _dtype_code(tensor), *strides]
        return [0, 0 if tensor is None else _dtype_code(tensor)]

    def _absent_input(self, name: str) -> list[int]:
        """The words of a number that stands for every element of an input: strides of zero."""
        if not set(self.table.tensors[name]) <= set(self.table.tensors[self.first]):
            raise Unsupported("an input that is left out and has axes of its own")
        number = torch.tensor(self.table.defaults[name], dtype=self.real, device="cpu")
        self.constants.append(number)
        return [number.data_ptr(), _dtype_code(number), *[0] * len(self.ranks)]

    def _result_words(self, field: Field, offset: int) -> list[int]:
        """The pointer and the dtype of a result, and the strides of a wide one.

        Adds its slot to the results if it is wanted.
        """
        name = field.name.removeprefix("to.")
        is_gradient = name.startswith("d.")
        like = self.values.get(name.removeprefix("d.")) if is_gradient else self.like_output(name)
        wide = field.kind == "result"
        if like is None:  # the gradient of a tensor that is absent
            return [0, 0, *[0] * (len(self.ranks) if wide else 0)]
        result = torch.empty_like(like)
        lengths: tuple[Length, ...] | None = None
        if not is_gradient and (field.dims or not wide):
            lengths = self.lengths_of(field.dims)
            result = like.new_empty(self.shape_of(field.dims))
        operand = self.order[name[2:] if is_gradient else self.first]
        if self.wanted(name):
            result_layout = (tuple(result.shape), result.stride(), result.dtype)
            self.results.append(ResultSlot(offset, name, operand, wide, *result_layout, lengths))
            operand = len(self.order) + len(self.results) - 1  # results come after all operands
        if not wide:
            return [0, _dtype_code(like)]
        bytes_moved = 2 * like.numel() * like.element_size()
        exceeds_cache = like.dtype == self.real and bytes_moved > last_level_cache()
        is_streamed = exceeds_cache and self._fills_cache_lines(like)
        self.exceeds_cache = self.exceeds_cache or exceeds_cache
        strides = self._strides(result, self.dims_of(field), offset, operand)
        return [0, STREAMED if is_streamed else _dtype_code(like), *strides]

    def _strides(
        self, tensor: Tensor, dims: Sequence[str], offset: int, number: int | None
    ) -> list[int]:
        """One stride for each dimension of the first input, in its order.

        `number` is that of the tensor in the call, from which other calls read their strides.
        """
        first = self.table.tensors[self.first]
        ranks = self.ranks
        if dims != first:
            by_dim = dict(zip(first, self.ranks))
            ranks = [by_dim[dim] for dim in dims]
        strides = dict(zip(dims, layout.strides_by_dim(tensor, ranks)))
        if number is not None:
            spans = self.spans_of(number, dims, ranks)
            self.layout_words += [
                LayoutWord(offset + 2 + position, "stride", spans[dim.lstrip("*")])
                for position, dim in enumerate(first)
            ]
        return [strides[dim] for dim in first]

    def _fills_cache_lines(self, result: Tensor) -> bool:
        """Whether rows of a result fill their cache lines.

        A streaming store to part of a line fetches the line first, which is slower than a plain
        store.
        """
        row_bytes = self.sizes.get(self.inner_dim, 0) * result.element_size()
        return row_bytes >= LONG_ROW or (row_bytes > 0 and row_bytes % CACHE_LINE == 0)


def _dtype_code(tensor: Tensor | None) -> int:
    if tensor is None or tensor.dtype not in DTYPE_CODES:
        raise Unsupported("a type that kernels do not know")
    return DTYPE_CODES[tensor.dtype]
