"""Binds the tensors of a call to launches of Triton kernels, for one layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.binding import CallBinding, ResultSlot, hyperparameter
from metanorm.runtime.kernels.errors import Unsupported
from metanorm.runtime.kernels.table import Field, KernelEntry, Table
from metanorm.runtime.triton import tiles
from metanorm.runtime.triton.groups import SortedEdges
from metanorm.runtime.triton.launches import Launch
from metanorm.runtime.triton.prepared import PreparedLaunches
from metanorm.runtime.triton.tiles import DataPass, LaunchShape

SIDES = ("outer", "rows", "columns", "cell")
FLOAT64 = str(torch.float64)
WHOLE = ("size ", "reach ", "width ")  # how keys of whole numbers start
CALL_VALUES = ("tensor", "value", "part", "momentum", "starts", "order", "index", "links")


class TritonBinding(CallBinding):
    """Chooses the launches of a call. `numbers` has what kernels are given, by key."""

    module: ModuleType
    device: torch.device
    prepared: PreparedLaunches
    numbers: dict[str, Any]

    def __init__(
        self, library: Any, table: Table, values: Mapping[str, Any], order: Sequence[str],
        wanted: Callable[[str], bool] = lambda name: True,
    ) -> None:  # fmt: skip
        super().__init__(library, table, values, order, wanted)
        self.real_of_data = self.real
        if FLOAT64 in table.dtypes.values():  # of what processes add up: it would cancel otherwise
            self.real = torch.float64

    def demand_few(self, cells: Sequence[Sequence[str]]) -> None:
        """Raise `Unsupported` if there are nearly as many statistics as elements.

        Those on the dimensions of a parameter do not count: they are its gradient, and a GPU
        decodes batches of a few wide rows.
        """
        others = {n: {*dims} for n, dims in self.table.tensors.items() if n != self.first}
        brought = [d for n, d in others.items() if isinstance(self.values.get(n), Tensor)]
        super().demand_few([dims for dims in cells if {*dims} not in brought])

    def prepare(self, entry: KernelEntry) -> PreparedLaunches:
        """The launches of calls in one direction. Raises `Unsupported`."""
        self.tile = tiles.tile_size()
        steps = self.library.steps[entry.sections[self.vector_dim(entry)]]
        self.module = self.library.module
        index = self._index(steps)
        self.device = self._common_device()
        self.prepared = PreparedLaunches(self.device, self.real, [], {}, [], index)
        self.numbers = self._initial_numbers(entry, steps)
        for name in entry.dtypes:
            self.numbers[f"dtype {name}"] = _triton_dtype(self.dtype_of(name))
        for field in entry.fields:
            self._add_field(field)
        for matrix, axis in self.table.matrices.items():
            if self.values.get(matrix, 0) is None:  # given by name: the identity
                eye = torch.eye(self.sizes[axis], dtype=self.real, device="cpu")
                self.prepared.constants[f"tensor {matrix}"] = eye
        for name, key in steps["kept"].items():
            self._add_saved(f"tensor {name}", key, steps)
        self._add_results(entry, steps)
        counts: dict[str, int] = {}
        for step in steps[self._schedule(steps)]:
            self.prepared.steps += self._launches(step, counts)
        return self.prepared

    # ---- lengths and numbers

    def _common_device(self) -> torch.device:
        """The device of the tensors of a call; a meta tensor stands for one that was not saved."""
        tensors = (self.values[name] for name in self.order)
        devices: set[torch.device] = {
            t.device for t in tensors if t is not None and t.device.type != "meta"
        }
        if len(devices) > 1:
            raise Unsupported("tensors on several devices")
        return next(iter(devices))

    def _index(self, steps: Mapping[str, Any]) -> tuple[str, int, int] | None:
        """The name of the index, the number of groups and that of rows; `None` without groups."""
        if not steps["groups"]:
            return None
        name, grouped, _ = steps["groups"]
        return name, self.values[f"{name}.count"], self.sizes[grouped]

    def _initial_numbers(self, entry: KernelEntry, steps: Mapping[str, Any]) -> dict[str, Any]:
        hyperparameters = {
            f.name: hyperparameter(self.values[f.name], self.real_of_data)
            for f in entry.fields
            if f.kind == "number"
        }
        numbers: dict[str, Any] = {f"size {dim}": size for dim, size in self.sizes.items()}
        derived_numbers = getattr(self.module, steps["numbers"])
        numbers.update(derived_numbers(self.sizes, hyperparameters))
        numbers = {k: int(v) if k.startswith(WHOLE) else float(v) for k, v in numbers.items()}
        if steps["groups"]:
            index, _, group_dim = steps["groups"]
            numbers[f"size {group_dim}"] = self.values[f"{index}.count"]
        import triton.language as tl

        numbers["REAL"] = _triton_dtype(self.real)
        numbers["INDEX"] = tl.int64 if self._needs_64_bits() else tl.int32
        return numbers

    def _needs_64_bits(self) -> bool:
        """Whether the offsets of elements may not fit 32 bits.

        A result has memory for every element, also where an operand is expanded.
        """
        tensors = [t for t in self.values.values() if isinstance(t, Tensor)]
        spans = (sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride())) + 1 for t in tensors)
        return max(*spans, *(t.numel() for t in tensors)) >= 2**30

    def _length(self, keys: Sequence[str]) -> int:
        return prod(self._size(key) for key in keys)

    def _size(self, key: str) -> int:
        """The number of a key, such as `size N*C`, which is a product."""
        if key not in self.numbers:
            sizes = key.removeprefix("size ").split("*")
            self.numbers[key] = prod(self.numbers[f"size {size}"] for size in sizes)
        size: int = self.numbers[key]
        return size

    # ---- tensors

    def _add_field(self, field: Field) -> None:
        """Add an operand or a momentum to the prepared call."""
        prepared, name = self.prepared, field.name
        match field.kind:
            case "edges":
                self._add_edges(name)
            case "momentum":
                prepared.momenta.append(f"momentum {name}")
            case "wide" | "narrow" | "index" if not name.startswith("to."):
                tensor = self.values.get(name)
                if name in self.order:
                    prepared.operands.append((f"tensor {name}", self.order[name]))
                    if name in self.table.buffers:
                        prepared.written.append(self.order[name])
                else:
                    prepared.constants[f"tensor {name}"] = tensor
                if field.kind == "wide" and tensor is not None:
                    self._add_strides(name, tensor, self.dims_of(field))
                elif tensor is not None and not tensor.is_contiguous():
                    raise Unsupported("a narrow tensor that does not lie in one piece")
                if field.kind == "wide" and tensor is None:
                    self.numbers.update(dict.fromkeys(self._stride_keys(name), 0))

    def _add_edges(self, name: str) -> None:
        """Add an edge list, which each call sorts as its kernels need it."""
        edges = self.edges_dim(name)
        nodes = self.sizes[self.table.edges[name]]
        self.numbers[f"degree {name}"] = self.sizes[edges] // max(nodes, 1) + 1
        self.prepared.edge_lists += [
            SortedEdges(name, self.order[name], nodes, loop, into)
            for loop in (False, True)
            for into in (True, False)
        ]

    def _stride_keys(self, name: str) -> list[str]:
        dims = self.table.tensors[self.first]
        return [f"stride {name} {dim.lstrip('*')}" for dim in dims]

    def _add_strides(self, name: str, tensor: Tensor, dims: Sequence[str]) -> None:
        """Add the strides of a wide tensor, one for each dimension of the spec."""
        first_dims = self.table.tensors[self.first]
        known_ranks = {dim.lstrip("*"): rank for dim, rank in zip(first_dims, self.ranks)}
        ranks = layout.ranks_of(dims, tensor.dim(), known_ranks)
        for dim, stride in zip(dims, layout.strides_by_dim(tensor, ranks)):
            self.numbers[f"stride {name} {dim.lstrip('*')}"] = stride

    def _add_results(self, entry: KernelEntry, steps: Mapping[str, Any]) -> None:
        """Add the slots of results, in the order of the norm, which mixes wide and narrow ones."""
        for field in entry.fields:
            if field.kind == "result":
                self._add_wide_result(field)
            elif field.kind == "narrow" and field.name.startswith("to."):
                self._add_narrow_result(field, steps["results"][field.name])

    def _add_wide_result(self, field: Field) -> None:
        key = field.name
        name = key.removeprefix("to.")
        is_gradient = name.startswith("d.")
        like = self.values.get(name.removeprefix("d.")) if is_gradient else self.like_output(name)
        self.prepared.constants[f"tensor {key}"] = None
        if like is None:
            self.numbers.update(dict.fromkeys(self._stride_keys(key), 0))
            return
        result = torch.empty_like(like, device="meta")
        dims = self.dims_of(field)
        if not is_gradient and field.dims:
            result = torch.empty(self.shape_of(dims), dtype=like.dtype, device="meta")
        self._add_strides(key, result, dims)
        if self.wanted(name):
            self._add_slot(name, result, wide=True)
            self.prepared.result_keys.append(f"tensor {key}")

    def _add_narrow_result(self, field: Field, key: str) -> None:
        """Add a narrow result, which kernels write in place unless it has another dtype."""
        name = field.name.removeprefix("to.")
        is_gradient = name.startswith("d.")
        like = self.values.get(name.removeprefix("d.")) if is_gradient else self.like_output(name)
        if like is None or not self.wanted(name):
            return
        if is_gradient:
            result = torch.empty(like.shape, dtype=like.dtype, device="meta")
        else:
            shape = [n for dim in field.dims for n in self._result_shape(dim.lstrip("*"))]
            result = torch.empty(shape, dtype=like.dtype, device="meta")
        self._add_slot(name, result, wide=False)
        is_taken = key in self.prepared.result_keys or key in self.prepared.saved
        if like.dtype == self.real and key.startswith("value ") and not is_taken:
            self.prepared.result_keys.append(key)
        else:
            self.prepared.result_keys.append(field.name)
            self.prepared.copies.append((key, field.name))

    def _add_slot(self, name: str, result: Tensor, wide: bool) -> None:
        operand = self.order[name.removeprefix("d.") if name.startswith("d.") else self.first]
        shape, strides = tuple(result.shape), result.stride()
        self.prepared.results.append(
            ResultSlot(0, name, operand, wide, shape, strides, result.dtype)
        )

    def _result_shape(self, dim: str) -> tuple[int, ...]:
        """The lengths behind a dimension of a result, which may be part of a dimension, or that of
        groups."""
        return self.shapes[dim] if dim in self.shapes else (self._size(f"size {dim}"),)

    def _add_saved(self, name: str, key: str, steps: Mapping[str, Any]) -> None:
        """Add a narrow value that the forward call saves for the backward one."""
        shape = tuple(self._size(size) for size in steps["shapes"][name.removeprefix("tensor ")])
        saved = self.prepared.saved
        if steps["way"] == "backward" or not key.startswith("value ") or key in saved:
            saved[name] = shape
            if steps["way"] == "forward":
                self.prepared.copies.append((key, name))
        else:
            saved[key] = shape

    # ---- launches

    def _schedule(self, steps: Mapping[str, Any]) -> str:
        """The schedule of this layout."""
        step = next((step for step in steps["islands"] if "columns" in step), None)
        return tiles.choose_schedule(None if step is None else self._data_pass(step), self.tile)

    def _data_pass(self, step: Mapping[str, Any]) -> DataPass:
        """The lengths that a kernel covers, which reads the data."""
        outer, rows, columns, cell = (self._length(step[side]) for side in SIDES)
        index = self.prepared.index
        return DataPass(
            down=step["down"],
            across=step["across"],
            outer=outer,
            rows=rows,
            columns=columns,
            keeps=step["keeps"] * (2 if self.real == torch.float64 else 1),
            adds_up=step["adds_up"],
            gathers=step["gathers"],
            groups=max(index[1], 1) if step["grouped"] and index else 0,
            cell=cell,
        )

    def _launches(self, step: Mapping[str, Any], counts: dict[str, int]) -> list[Launch]:
        """The launches of a step: a kernel that reads the data, or phases of narrow values."""
        if "columns" in step:
            return [self._pass_launch(step, counts)]
        phases = step["phases"]
        shapes = [self._phase_shape(phase, counts) for phase in phases]
        if (merged := tiles.merged_shape(shapes)) is not None:
            return [self._launch(step, merged, counts)]
        return [self._launch(p, shape, counts) for p, shape in zip(phases, shapes)]

    def _pass_launch(self, step: Mapping[str, Any], counts: dict[str, int]) -> Launch:
        """The launch of a kernel that reads the data; adds the number of its parts to `counts`."""
        self._add_arrays(step)
        shape = tiles.pass_shape(self._data_pass(step), self.device, self.tile)
        self.numbers.update(shape.numbers)
        for names, count, cells in step["parts"]:
            n_parts, n_cells = self._length(count), self._length(cells)
            counts[f"count {names[0].split(' ')[1]}"] = n_parts
            for name in names:
                self._add_array(name, [n_parts, n_cells])
        writes = () if step.get("parts") or step["arrays"] else step.get("writes", ())
        return self._launch(step, shape, counts, tuple(f"tensor {name}" for name in writes))

    def _phase_shape(self, phase: Mapping[str, Any], counts: Mapping[str, int]) -> LaunchShape:
        self._add_arrays(phase)
        parts = [counts[key] for key in phase["arguments"].split("; ") if key in counts]
        pooled = [self._length(axes) for axes in phase["pooled"]]
        return tiles.phase_shape(self._length(phase["cells"]), max([1, *parts, *pooled]))

    def _launch(
        self, step: Mapping[str, Any], shape: LaunchShape, counts: Mapping[str, int],
        writes: tuple[str, ...] = (),
    ) -> Launch:  # fmt: skip
        numbers = {**self.numbers, **counts, **shape.numbers}
        arguments: list[Any] = []
        keys: list[tuple[int, str]] = []
        for position, key in enumerate(step["arguments"].split("; ")):
            if key.split(" ")[0] in CALL_VALUES:
                keys.append((position, key))
                arguments.append(None)
            elif key in numbers:
                arguments.append(numbers[key])
            else:
                arguments.append(self._size(key))
        kernel = getattr(self.module, step["kernel"])
        return Launch(kernel, shape.programs, shape.warps, arguments, keys, writes)

    def _add_arrays(self, step: Mapping[str, Any]) -> None:
        for key, sizes in step["arrays"].items():
            self._add_array(key, [self._size(size) for size in sizes])

    def _add_array(self, key: str, shape: Sequence[int]) -> None:
        if key not in self.prepared.saved and key not in self.prepared.result_keys:
            self.prepared.arrays[key] = tuple(shape)


def _triton_dtype(dtype: torch.dtype) -> Any:
    """The dtype of Triton with the same name."""
    import triton.language as tl

    return getattr(tl, str(dtype).removeprefix("torch."))
