"""Calls of kernels: everything that a layout decides is found once, and kept for the next call."""

from __future__ import annotations

import ctypes
import dataclasses
import os
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.native import layout
from metanorm.runtime.native.build import load
from metanorm.runtime.native.layout import TYPES, Unfit
from metanorm.runtime.native.table import Entry, Field, Table

REMEMBERED = 256  # layouts of one norm; beyond, those of a stream of odd shapes are forgotten

# Fields whose layout or value decides about a call; numbers may be sizes.
DECISIVE = ("wide", "narrow", "index", "groups", "number")

# What a build defines for each type that kernels compute in.
PRECISIONS: Mapping[torch.dtype, Mapping[str, str]] = {
    torch.float32: {},
    torch.float64: {"METANORM_DOUBLE": "1"},
}

MANY = 32768  # elements from which on it matters how many statistics there are

Values = Mapping[str, Any]

_forked = False


def _after_fork() -> None:
    global _forked
    _forked = True


# A pool of threads does not live on in a child; the kernels of one work alone, as torch's do in
# the workers of a DataLoader.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def threads() -> int:
    """How many threads a kernel may use."""
    return 1 if _forked else torch.get_num_threads()


@dataclass
class Prepared:
    """A call for one layout: constants in place, and where the rest goes."""

    function: Callable[[bytes], int]
    pack: Callable[..., bytes]
    template: list[Any]
    pointers: list[tuple[int, str]]
    momenta: list[tuple[int, str]]
    results: list[tuple[str, tuple[int, ...] | None]]  # a shape, or like the tensor of that name
    kept: int  # bytes of what the backward call needs
    kept_at: int
    backward: dict[Any, Prepared] = dataclasses.field(
        default_factory=dict
    )  # by the layout of gradients


class Kernels:
    """The kernels of one norm."""

    def __init__(self, source: str, table: Table) -> None:
        self.source = source
        self.table = table
        self.first = next(iter(table.tensors))
        self._prepared: dict[Any, Prepared | str] = {}  # or why there is none
        # Only training writes; of its forward fields that are buffers, some may only be read.
        forward = {f.name for f in table.arms["train"]["forward"].fields}
        self.written = forward.intersection(table.buffers)
        self.buffers_read = {
            arm: {f.name for f in ways["backward"].fields}.intersection(table.buffers)
            for arm, ways in table.arms.items()
        }
        self._decisive = {
            (arm, way): tuple((f.kind, f.name) for f in entry.fields if f.kind in DECISIVE)
            for arm, ways in table.arms.items()
            for way, entry in ways.items()
        }

    def prepared(self, arm: str, way: str, values: Values) -> Prepared:
        """The call for tensors that lie like these. Raises `Unfit` and `CannotBuild`."""
        x = values[self.first]
        parts: list[Any] = [arm, way, x.shape, x.stride(), x.dtype]
        parts += [len(values[argument]) for argument in self.table.ranks.values()]
        for kind, name in self._decisive[arm, way]:
            value = values.get(name)
            if kind in ("groups", "number"):
                parts.append(value)
            elif value is not None:
                parts += (name, value.shape, value.dtype)
                if kind == "wide":
                    parts.append(value.stride())
        key = tuple(parts)
        found = self._prepared.get(key)
        if found is None:
            if len(self._prepared) >= REMEMBERED:
                self._prepared.clear()
            found = self._prepared[key] = self._prepare(arm, way, values)
        if isinstance(found, str):
            raise Unfit(found)
        return found

    def _prepare(self, arm: str, way: str, values: Values) -> Prepared | str:
        try:
            made = _Preparation(self, self.table.arms[arm][way], values)
            if way == "forward":
                made.demand_few(self.table.cells[arm])
            return made.done()
        except Unfit as reason:
            return str(reason)


class _Preparation:
    def __init__(self, kernels: Kernels, entry: Entry, values: Values) -> None:
        self.kernels = kernels
        self.entry = entry
        self.values = values
        self.table = kernels.table
        self.first = kernels.first
        self.x: Tensor = values[self.first]
        self.shapes: dict[str, tuple[int, ...]] = {}
        known = {dim: len(values[argument]) for dim, argument in self.table.ranks.items()}
        for name, dims in self.table.tensors.items():
            if isinstance(tensor := values.get(name), Tensor):
                ranks = layout.ranks_of(dims, tensor.dim(), known)
                for dim, shape in layout.shapes(dims, tensor.shape, ranks).items():
                    if self.shapes.setdefault(dim, shape) != shape:
                        raise Unfit("tensors whose shapes do not agree")
                if name == self.first:
                    self.ranks = ranks
        self.sizes = {dim: prod(shape) for dim, shape in self.shapes.items()}
        self.real = torch.float64 if self.x.dtype == torch.float64 else torch.float32

    def demand_few(self, cells: Sequence[Sequence[str]]) -> None:
        """Kernels are made for statistics that are few beside the data; those of single elements,
        such as instance statistics of a matrix, are for torch."""
        most = max((prod(self.sizes.get(dim, 1) for dim in dims) for dims in cells), default=1)
        if self.x.numel() > MANY and 4 * most > self.x.numel():
            raise Unfit("statistics of hardly more than one element each")

    def done(self) -> Prepared:
        """Everything that does not change from call to call."""
        format_ = "=q"
        template: list[Any] = [1]
        pointers: list[tuple[int, str]] = []
        momenta: list[tuple[int, str]] = []
        results: list[tuple[str, tuple[int, ...] | None]] = []
        kept_at = 0
        for field in self.entry.fields:
            at = len(template)
            match field.kind:
                case "size":
                    template.append(self.sizes.get(field.name, 0))
                case "groups":
                    template.append(self.values[field.name])
                case "number":
                    template.append(_number(self.values[field.name], self.real))
                case "momentum":
                    momenta.append((at, field.name))
                    template.append(0.0)
                case "saved":
                    kept_at = at
                    template.append(0)
                case _:
                    pointers.append((at, field.name))
                    template += self._tensor(field, results)
            format_ += "d" if field.kind in ("number", "momentum") else "q" * (len(template) - at)
        pack = struct.Struct(format_).pack
        library = self._library()
        function = library.forward if hasattr(library, "forward") else library.backward
        function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_int
        kept = 0
        if kept_at and hasattr(library, "kept"):
            library.kept.argtypes, library.kept.restype = [ctypes.c_char_p], ctypes.c_int64
            kept = library.kept(pack(*template))
        return Prepared(function, pack, template, pointers, momenta, results, kept, kept_at)

    def _library(self) -> ctypes.CDLL:
        steps = layout.strides(self.x, self.ranks)
        dims = self.table.tensors[self.first]
        section = layout.vector_of(self.sizes, dims, steps, list(self.entry.sections))
        defines = {self.entry.sections[section]: "1", **PRECISIONS[self.real]}
        return load(self.kernels.source, defines)

    def _tensor(self, field: Field, results: list[tuple[str, tuple[int, ...] | None]]) -> list[int]:
        """Pointer, type, and strides of a wide one."""
        if field.name.startswith("to."):
            return self._result(field, results)
        tensor = self.values.get(field.name)
        kept = field.name in self.table.buffers and tensor is not None
        if kept and not tensor.is_floating_point():  # type: ignore[union-attr]
            raise Unfit("a buffer that cannot hold what is kept in it")
        if field.kind == "wide":
            return [0, _type(tensor), *layout.strides(tensor, self.ranks)]  # type: ignore[arg-type]
        return [0, 0 if tensor is None else _type(tensor)]

    def _result(self, field: Field, results: list[tuple[str, tuple[int, ...] | None]]) -> list[int]:
        name = field.name.removeprefix("to.")
        if field.kind == "result":
            results.append((name, None))
            of = self.values[name[2:]] if name.startswith("d.") else self.x
            like = torch.empty_like(of)
            return [0, _type(like), *layout.strides(like, self.ranks)]
        of = self.values.get(name.removeprefix("d.")) if name.startswith("d.") else None
        if of is not None:
            results.append((name, None))
            return [0, _type(of)]
        if name.startswith("d."):
            return [0, 0]  # of a parameter that is not there
        shape = [self.shapes[dim.lstrip("*")] for dim in field.dims]
        results.append((name, tuple(n for part in shape for n in part)))
        return [0, _type(self.x)]


def _type(tensor: Tensor | None) -> int:
    if tensor is None or tensor.dtype not in TYPES:
        raise Unfit("a type that kernels do not know")
    return TYPES[tensor.dtype]


def run(
    prepared: Prepared, values: Values, results: Mapping[str, Tensor], kept: Tensor | None
) -> None:
    """One call. `values` and `results` hold the tensors by name."""
    filled = prepared.template.copy()
    filled[0] = threads()
    for at, name in prepared.pointers:
        tensor = results.get(name[3:]) if name.startswith("to.") else values.get(name)
        if tensor is not None:
            filled[at] = tensor.data_ptr()
    for at, name in prepared.momenta:
        filled[at] = values[name]
    if kept is not None:
        filled[prepared.kept_at] = kept.data_ptr()
    if prepared.function(prepared.pack(*filled)):
        raise MemoryError("no memory for the statistics of a norm")


def _number(value: Any, real: torch.dtype) -> float:
    """A hyperparameter; `None` stands for the machine epsilon of the statistics."""
    return torch.finfo(real).eps if value is None else float(value)


def allocated(
    prepared: Prepared, values: Values, first: Tensor, wanted: Sequence[str] | None = None
) -> dict[str, Tensor]:
    """Memory for the results that are wanted."""
    found = {}
    for name, shape in prepared.results:
        if wanted is not None and name not in wanted:
            continue
        if shape is not None:
            found[name] = first.new_empty(shape)
        else:
            like = values.get(name[2:]) if name.startswith("d.") else first
            found[name] = torch.empty_like(first if like is None else like)
    return found
