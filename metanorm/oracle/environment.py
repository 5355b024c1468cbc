"""The environment of a call: its inputs, lengths of axes, numbers and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metanorm.ir.program import Program
from metanorm.ir.scalar import Hyper, Scalar, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.oracle.call import Call
from metanorm.oracle.dense import GroupingData, segment_of_position


class CallEnvironment:
    """The inputs of a call, and the lengths of axes that follow from them."""

    def __init__(self, program: Program, call: Call) -> None:
        self.program = program
        self.call = call
        self.space = Space(program.axes)
        self.sizes: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs: dict[str, Tensor | None] = {}
        self._bind_inputs()
        groups = self._group_counts()
        given_inputs = {n: t for n, t in self.inputs.items() if t is not None}
        matrices = {**self._matrices(), **given_inputs}
        self.grouping_data = GroupingData(given_inputs, groups, matrices, given_inputs, self.number)

    def rounded(self, value: Tensor) -> Tensor:
        """The value, rounded if the call asks for it."""
        return self.call.rounded(value) if self.call.rounded else value

    def _bind_inputs(self) -> None:
        for decl in self.program.inputs:
            tensor = self.call.inputs.get(decl.name)
            if tensor is None and isinstance(decl.default, str):
                tensor = self.call.inputs.get(decl.default)
            if tensor is not None and decl.offsets:
                tensor = segment_of_position(tensor)
            self.inputs[decl.name] = tensor
            if tensor is not None and decl.sort in ("tensor", "mask", "index", "whole"):
                self._set_lengths(decl.dims, tensor)
        for name, value in self.call.hypers.items():
            for axis in next((a.axes for a in self.program.arguments if a.name == name), ()):
                if axis not in self.sizes and isinstance(value, (int, tuple)):
                    shape = (value,) if isinstance(value, int) else value
                    self._set_length(axis, tuple(shape))
        for declared in self.program.axes:
            if (
                declared.name not in self.sizes
                and declared.size is not None
                and not declared.cells_of
            ):
                self._set_length(declared.name, (int(self.number(declared.size)),))

    def _set_lengths(self, dims: Sequence[str], tensor: Tensor) -> None:
        """Set the lengths of axes from a shape. A group of axes takes the dimensions left over."""
        shape = list(tensor.shape)
        group = [d for d in dims if self.space[d].variadic]
        open_group = [d for d in group if self.space[d].size is None]
        for dim in dims:
            if dim not in group:
                self._set_length(dim, (shape.pop(0),))
                continue
            size = self.space[dim].size
            given_length = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
            if dim not in open_group and given_length is not None:
                length = 1 if isinstance(given_length, int) else len(given_length)  # type: ignore[arg-type]
            else:
                later_dims = dims[list(dims).index(dim) + 1 :]
                length = len(shape) - sum(self._rank(d) for d in later_dims)
            self._set_length(dim, tuple(shape[:length]))
            shape = shape[length:]

    def _rank(self, dim: str) -> int:
        size = self.space[dim].size
        if not self.space[dim].variadic:
            return 1
        given_length = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
        return 1 if isinstance(given_length, int) else len(given_length)  # type: ignore[arg-type]

    def _set_length(self, axis: str, shape: tuple[int, ...]) -> None:
        self.shapes[axis] = shape
        self.sizes[axis] = math.prod(shape)
        parts = self.space[axis].parts
        for part in parts:
            size = self.space[part].size
            if size is not None and part not in self.sizes:
                self._set_length(part, (int(self.number(size)),))

    def number(self, scalar: Scalar) -> float:
        """The number that a scalar is with the hyperparameters and lengths of this call."""
        names = {n: float(v) for n, v in self.call.hypers.items() if isinstance(v, (int, float))}
        for leaf in leaves(scalar):
            if isinstance(leaf, Hyper) and self.call.hypers.get(leaf.name) is None:
                names[leaf.name] = self.call.epsilon
            if isinstance(leaf, SizeOf) and leaf.axis not in self.sizes:
                raise KeyError(leaf.axis)
        return evaluate(scalar, names, self.sizes)

    def _group_counts(self) -> dict[str, int]:
        group_counts: dict[str, int] = {}
        for decl in self.program.inputs:
            if decl.sort != "index":
                continue
            index = self.inputs[decl.name]
            if decl.table is not None:
                group_counts[decl.name] = self.sizes[decl.table]
            elif decl.offsets and (offsets := self.call.inputs[decl.name]) is not None:
                group_counts[decl.name] = len(offsets) - 1
            elif index is None:
                group_counts[decl.name] = 1
                shape = [self.sizes[axis] for axis in decl.dims]
                self.inputs[decl.name] = torch.zeros(shape, dtype=torch.long)
            else:
                count = self.call.groups.get(decl.name)
                group_counts[decl.name] = int(index.max()) + 1 if count is None else count
        return group_counts

    def _matrices(self) -> dict[str, Tensor | str]:
        matrices: dict[str, Tensor | str] = {}
        for argument in self.program.arguments:
            value = self.call.hypers.get(argument.name, argument.default)
            if argument.type == "matrix" and isinstance(value, (Tensor, str)):
                matrices[argument.name] = value
        matrices.update({n: p for n, p in self.call.params.items() if p is not None})
        return matrices
