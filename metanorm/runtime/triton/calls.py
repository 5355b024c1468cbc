"""What a layout decides about the kernels of a call, which is found once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels import layout
from metanorm.runtime.kernels.reading import Place, Reading, known_number
from metanorm.runtime.kernels.refusals import Unfit
from metanorm.runtime.kernels.table import Entry, Field
from metanorm.runtime.triton import tiles, tuning
from metanorm.runtime.triton.interpreter import interpreting
from metanorm.runtime.triton.launches import Launch
from metanorm.runtime.triton.prepared import Prepared
from metanorm.runtime.triton.tiles import Choice, Tiles, others, usual

SIDES = ("outer", "rows", "columns", "cell")
TENSORS = ("tensor", "value", "part", "momentum", "starts", "order", "index")


class Preparation(Reading):
    """Finds how the kernels of a norm go through the tensors of a call."""

    module: ModuleType
    device: torch.device
    made: Prepared
    env: dict[str, Any]
    group: str = ""  # the dimension of groups of rows, where there are any

    def demand_few(self, cells: Sequence[Sequence[str]]) -> None:
        """Statistics are few beside the data, but for the gradients of parameters: a batch of a
        few wide rows is what a GPU is given to decode."""
        beside = {n: {*dims} for n, dims in self.table.tensors.items() if n != self.first}
        own = [dims for n, dims in beside.items() if isinstance(self.values.get(n), Tensor)]
        super().demand_few([dims for dims in cells if {*dims} not in own])

    def of(self, entry: Entry) -> Prepared:
        """Everything about calls in one direction that does not change, with other tiles, too,
        where they are to be tried. Raises `Unfit`."""
        choice = usual()
        made = self._prepared(entry, choice)
        if tuning.asked() and not interpreting():
            for other in others(choice):
                tried = self._prepared(entry, other)
                if all(tried.steps != known.steps for known in (made, *made.rivals)):
                    made.rivals.append(tried)
        return made

    def _prepared(self, entry: Entry, choice: Choice) -> Prepared:
        self.choice = choice
        steps = self.library.steps[entry.sections[self.vector_of(entry)]]
        self.module = self.library.module
        index = self._index(entry, steps)
        self.device = self._device()
        self.made = Prepared(self.device, self.real, [], {}, [], index)
        self.env = self._numbers(entry, steps)
        for name in entry.dtypes:
            self.env[f"dtype {name}"] = _language_type(self.dtype_of(name))
        for field_ in entry.fields:
            self._field(field_)
        for matrix, axis in self.table.matrices.items():
            if self.values.get(matrix, 0) is None:  # by name: the identity
                eye = torch.eye(self.sizes[axis], dtype=self.real, device="cpu")
                self.made.constants[f"tensor {matrix}"] = eye
        for name, key in steps["kept"].items():
            self._keep(f"tensor {name}", key, steps)
        self._results(entry, steps)
        counts: dict[str, int] = {}
        for step in steps[self._schedule(steps)]:
            self.made.steps += self._steps(step, counts)
        return self.made

    # ---- what is known of lengths and numbers

    def _device(self) -> torch.device:
        """Where the tensors of a call are; those that were not saved have no memory at all."""
        brought = (self.values[name] for name in self.order)
        devices: set[torch.device] = {
            t.device for t in brought if t is not None and t.device.type != "meta"
        }
        if len(devices) > 1:
            raise Unfit("tensors on several devices")
        return next(iter(devices))

    def _index(self, entry: Entry, steps: Mapping[str, Any]) -> tuple[str, int, int] | None:
        if not steps["groups"]:
            return None
        name, grouped, self.group = steps["groups"]
        return name, self.values[f"{name}.count"], self.sizes[grouped]

    def _numbers(self, entry: Entry, steps: Mapping[str, Any]) -> dict[str, Any]:
        given = {
            f.name: known_number(self.values[f.name], self.real)
            for f in entry.fields
            if f.kind == "number"
        }
        env: dict[str, Any] = {f"size {dim}": size for dim, size in self.sizes.items()}
        numbers = getattr(self.module, steps["numbers"])
        env.update(numbers(self.sizes, given))
        env = {k: int(v) if k.startswith("size ") else float(v) for k, v in env.items()}
        if steps["groups"]:
            env[f"size {steps['groups'][2]}"] = self.values[f"{steps['groups'][0]}.count"]
        import triton.language as tl

        env["REAL"] = _language_type(self.real)
        env["INDEX"] = tl.int64 if self._large() else tl.int32
        return env

    def _large(self) -> bool:
        """Whether places of elements may not fit 32 bits: those of what is given, and of results,
        which have memory for each element where what is given is expanded."""
        tensors = [t for t in self.values.values() if isinstance(t, Tensor)]
        spans = (sum((n - 1) * abs(s) for n, s in zip(t.shape, t.stride())) + 1 for t in tensors)
        return max(*spans, *(t.numel() for t in tensors)) >= 2**30

    def _length(self, keys: Sequence[str]) -> int:
        return prod(self._known(key) for key in keys)

    def _known(self, key: str) -> int:
        if key not in self.env:
            sizes = key.removeprefix("size ").split("*")
            self.env[key] = prod(self.env[f"size {size}"] for size in sizes)
        known: int = self.env[key]
        return known

    # ---- tensors

    def _field(self, field_: Field) -> None:
        made, name = self.made, field_.name
        match field_.kind:
            case "momentum":
                made.momenta.append(f"momentum {name}")
            case "wide" | "narrow" | "index" if not name.startswith("to."):
                tensor = self.values.get(name)
                if name in self.order:
                    made.operands.append((f"tensor {name}", self.order[name]))
                    if name in self.table.buffers:
                        made.written.append(self.order[name])
                else:
                    made.constants[f"tensor {name}"] = tensor
                if field_.kind == "wide" and tensor is not None:
                    self._strides(name, tensor, self.dims_of(field_))
                elif tensor is not None and not tensor.is_contiguous():
                    raise Unfit("a narrow tensor that does not lie in one piece")
                if field_.kind == "wide" and tensor is None:
                    self.env.update(dict.fromkeys(self._stride_keys(name), 0))

    def _stride_keys(self, name: str) -> list[str]:
        dims = self.table.tensors[self.first]
        return [f"stride {name} {dim.lstrip('*')}" for dim in dims]

    def _strides(self, name: str, tensor: Tensor, own: Sequence[str]) -> None:
        """The strides of a tensor as large as the data, one for each dimension of the spec."""
        known = {dim.lstrip("*"): r for dim, r in zip(self.table.tensors[self.first], self.ranks)}
        ranks = layout.ranks_of(own, tensor.dim(), known)
        for dim, stride in zip(own, layout.strides(tensor, ranks)):
            self.env[f"stride {name} {dim.lstrip('*')}"] = stride

    def _wide_result(self, field_: Field) -> None:
        key = field_.name
        name = key.removeprefix("to.")
        gradient = name.startswith("d.")
        of = self.values.get(name.removeprefix("d.")) if gradient else self.like_output(name)
        self.made.constants[f"tensor {key}"] = None
        if of is None:
            self.env.update(dict.fromkeys(self._stride_keys(key), 0))
            return
        new = torch.empty_like(of, device="meta")
        dims = self.dims_of(field_)
        if not gradient and field_.dims:
            new = torch.empty(self.shape_of(dims), dtype=of.dtype, device="meta")
        self._strides(key, new, dims)
        if self.wanted(name):
            self._place(name, of, new, wide=True)
            self.made.result_keys.append(f"tensor {key}")

    def _place(self, name: str, of: Tensor, new: Tensor, wide: bool) -> None:
        gradient = name.startswith("d.")
        number = self.order[name[2:] if gradient else self.first]
        lies = (tuple(new.shape), new.stride(), of.dtype)
        self.made.results.append(Place(0, name, number, wide, *lies))

    def _results(self, entry: Entry, steps: Mapping[str, Any]) -> None:
        """Where results go, in the order of the norm: small ones stand between large ones, too."""
        for field_ in entry.fields:
            if field_.kind == "result":
                self._wide_result(field_)
            elif field_.kind == "narrow" and field_.name.startswith("to."):
                self._narrow_result(field_, steps["results"][field_.name])

    def _narrow_result(self, field_: Field, key: str) -> None:
        """Kernels write narrow results where they belong, unless another type is asked for."""
        name = field_.name.removeprefix("to.")
        gradient = name.startswith("d.")
        of = self.values.get(name.removeprefix("d.")) if gradient else self.like_output(name)
        if of is None or not self.wanted(name):
            return
        if gradient:
            new = torch.empty(of.shape, dtype=of.dtype, device="meta")
        else:
            shape = [n for dim in field_.dims for n in self._shape(dim.lstrip("*"))]
            new = torch.empty(shape, dtype=of.dtype, device="meta")
        self._place(name, of, new, wide=False)
        taken = key in self.made.result_keys or key in self.made.saved
        if of.dtype == self.real and key.startswith("value ") and not taken:
            self.made.result_keys.append(key)
        else:
            self.made.result_keys.append(field_.name)
            self.made.copies.append((key, field_.name))

    def _shape(self, dim: str) -> tuple[int, ...]:
        """The lengths behind a dimension of a result; a part of one has a length of its own.
        Raises `Unfit`."""
        if dim == self.group:
            raise Unfit("a result with one value for each group of rows")
        return self.shapes[dim] if dim in self.shapes else (self._known(f"size {dim}"),)

    def _keep(self, name: str, key: str, steps: Mapping[str, Any]) -> None:
        """A measured value goes where the way back finds it."""
        shape = tuple(self._known(size) for size in steps["shapes"][name.removeprefix("tensor ")])
        if steps["way"] == "backward" or not key.startswith("value ") or key in self.made.saved:
            self.made.saved[name] = shape
            if steps["way"] == "forward":
                self.made.copies.append((key, name))
        else:
            self.made.saved[key] = shape

    # ---- steps

    def _schedule(self, steps: Mapping[str, Any]) -> str:
        """Which of the schedules serves this layout."""
        first = {
            name: next((s for s in steps[name] if "columns" in s), None)
            for name in ("islands", "walked")
        }
        looks = {name: self._covers(step) for name, step in first.items() if step is not None}
        return tiles.schedule(looks, self.device, self.choice)

    def _covers(self, step: Mapping[str, Any]) -> tiles.Look:
        """What a kernel goes through that looks at the data."""
        outer, rows, columns, cell = (self._length(step[side]) for side in SIDES)
        groups_ = max(self.made.index[1], 1) if step["grouped"] and self.made.index else 0
        keeps = step["keeps"] * (2 if self.real == torch.float64 else 1)
        covered = step["down"], step["across"], outer, rows, columns, keeps
        return tiles.Look(*covered, step["adds_up"], step["gathers"], groups_, cell)

    def _steps(self, step: Mapping[str, Any], counts: dict[str, int]) -> list[Launch]:
        """The launches of a step: a kernel that looks at the data, or phases of what is narrow."""
        if "columns" in step:
            return [self._look(step, counts)]
        phases = step["phases"]
        shapes = [self._cells(phase, counts) for phase in phases]
        if (whole := tiles.together(shapes)) is not None:
            return [self._launch(step, whole, counts)]
        return [self._launch(p, shape, counts) for p, shape in zip(phases, shapes)]

    def _look(self, step: Mapping[str, Any], counts: dict[str, int]) -> Launch:
        self._arrays(step)
        shape = tiles.tiles(self._covers(step), self.device, self.choice)
        self.env.update(shape.numbers)
        for names, count, cells_ in step["parts"]:
            parts, own = self._length(count), self._length(cells_)
            counts[f"count {names[0].split(' ')[1]}"] = parts
            for name in names:
                self._array(name, [parts, own])
        writes = () if step.get("parts") or step["arrays"] else step.get("writes", ())
        return self._launch(step, shape, counts, tuple(f"tensor {name}" for name in writes))

    def _cells(self, phase: Mapping[str, Any], counts: Mapping[str, int]) -> Tiles:
        self._arrays(phase)
        joined = [counts[key] for key in phase["arguments"].split("; ") if key in counts]
        pooled = [self._length(axes) for axes in phase["pooled"]]
        return tiles.cells(self._length(phase["cells"]), max([1, *joined, *pooled]))

    def _launch(
        self, step: Mapping[str, Any], shape: Tiles, counts: Mapping[str, int],
        writes: tuple[str, ...] = (),
    ) -> Launch:  # fmt: skip
        numbers = {**self.env, **counts, **shape.numbers}
        arguments: list[Any] = []
        places: list[tuple[int, str]] = []
        for at, key in enumerate(step["arguments"].split("; ")):
            if key.split(" ")[0] in TENSORS:
                places.append((at, key))
                arguments.append(None)
            elif key in numbers:
                arguments.append(numbers[key])
            else:
                arguments.append(self._known(key))
        kernel = getattr(self.module, step["kernel"])
        return Launch(kernel, shape.programs, shape.warps, arguments, places, writes)

    def _arrays(self, step: Mapping[str, Any]) -> None:
        for key, sizes in step["arrays"].items():
            self._array(key, [self._known(size) for size in sizes])

    def _array(self, key: str, shape: Sequence[int]) -> None:
        if key not in self.made.saved and key not in self.made.result_keys:
            self.made.arrays[key] = tuple(shape)


def _language_type(dtype: torch.dtype) -> Any:
    """A dtype of torch, as Triton calls it."""
    import triton.language as tl

    return getattr(tl, str(dtype).removeprefix("torch."))
