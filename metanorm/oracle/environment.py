"""What a call brings: inputs, lengths of axes, numbers and matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metanorm.ir.nodes import (
    Program,
)
from metanorm.ir.scalar import Hyper, Scalar, SizeOf, evaluate, leaves
from metanorm.ir.space import Space
from metanorm.oracle.call import Call
from metanorm.oracle.dense import GroupingData


class CallEnvironment:
    """The inputs of a call, with the sizes that follow from them."""

    def __init__(self, program: Program, call: Call) -> None:
        self.program = program
        self.call = call
        self.space = Space(program.axes)
        self.sizes: dict[str, int] = {}
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.inputs: dict[str, Tensor | None] = {}
        self._take_inputs()
        groups = self._groups()
        given = {n: t for n, t in self.inputs.items() if t is not None}
        matrices = {**self._matrices(), **given}
        self.grouping_data = GroupingData(given, groups, matrices, given, self.number)

    def rounded(self, value: Tensor) -> Tensor:
        """The value, or what is left of it where the call asks for rounding."""
        return self.call.rounded(value) if self.call.rounded else value

    def _take_inputs(self) -> None:
        for decl in self.program.inputs:
            given = self.call.inputs.get(decl.name)
            if given is None and isinstance(decl.default, str):
                given = self.call.inputs.get(decl.default)
            self.inputs[decl.name] = given
            if given is not None and decl.sort in ("tensor", "mask", "index", "whole"):
                self._measure(decl.dims, given)
        for name, value in self.call.hypers.items():
            for axis in next((a.axes for a in self.program.arguments if a.name == name), ()):
                if axis not in self.sizes and isinstance(value, (int, tuple)):
                    shape = (value,) if isinstance(value, int) else value
                    self._set(axis, tuple(shape))
        for known in self.program.axes:
            if known.name not in self.sizes and known.size is not None and not known.cells_of:
                self._set(known.name, (int(self.number(known.size)),))

    def _measure(self, dims: Sequence[str], tensor: Tensor) -> None:
        """Sizes of axes from the shape; a group of axes takes what the others leave."""
        shape = list(tensor.shape)
        group = [d for d in dims if self.space[d].variadic]
        unknown = [d for d in group if self.space[d].size is None]
        for dim in dims:
            if dim not in group:
                self._set(dim, (shape.pop(0),))
                continue
            size = self.space[dim].size
            fixed = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
            if dim not in unknown and fixed is not None:
                length = 1 if isinstance(fixed, int) else len(fixed)  # type: ignore[arg-type]
            else:
                behind = dims[list(dims).index(dim) + 1 :]
                length = len(shape) - sum(self._rank(d) for d in behind)
            self._set(dim, tuple(shape[:length]))
            shape = shape[length:]

    def _rank(self, dim: str) -> int:
        size = self.space[dim].size
        if not self.space[dim].variadic:
            return 1
        fixed = self.call.hypers.get(size.name) if isinstance(size, Hyper) else None
        return 1 if isinstance(fixed, int) else len(fixed)  # type: ignore[arg-type]

    def _set(self, axis: str, shape: tuple[int, ...]) -> None:
        self.shapes[axis] = shape
        self.sizes[axis] = math.prod(shape)
        parts = self.space[axis].parts
        for part in parts:
            size = self.space[part].size
            if size is not None and part not in self.sizes:
                self._set(part, (int(self.number(size)),))

    def number(self, scalar: Scalar) -> float:
        """A number of the spec: over the hyperparameters and the lengths of axes."""
        names = {n: float(v) for n, v in self.call.hypers.items() if isinstance(v, (int, float))}
        for leaf in leaves(scalar):
            if isinstance(leaf, Hyper) and self.call.hypers.get(leaf.name) is None:
                names[leaf.name] = self.call.epsilon
            if isinstance(leaf, SizeOf) and leaf.axis not in self.sizes:
                raise KeyError(leaf.axis)
        return evaluate(scalar, names, self.sizes)

    def _groups(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for decl in self.program.inputs:
            if decl.sort != "index":
                continue
            given = self.inputs[decl.name]
            if decl.table is not None:
                found[decl.name] = self.sizes[decl.table]
            elif given is None:
                found[decl.name] = 1
                shape = [self.sizes[axis] for axis in decl.dims]
                self.inputs[decl.name] = torch.zeros(shape, dtype=torch.long)
            else:
                known = self.call.groups.get(decl.name)
                found[decl.name] = int(given.max()) + 1 if known is None else known
        return found

    def _matrices(self) -> dict[str, Tensor | str]:
        found: dict[str, Tensor | str] = {}
        for argument in self.program.arguments:
            value = self.call.hypers.get(argument.name, argument.default)
            if argument.type == "matrix" and isinstance(value, (Tensor, str)):
                found[argument.name] = value
        found.update({n: p for n, p in self.call.params.items() if p is not None})
        return found
