"""The values of a run, as tensors with one dimension for each axis, in program order."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metanorm.ir.nodes import Ref, Type
from metanorm.oracle.dense import pooling_matrix
from metanorm.oracle.environment import CallEnvironment


class Values:
    """Values by name, and their alignment by axes."""

    def __init__(self, env: CallEnvironment) -> None:
        self.env = env
        self.space = env.space
        self.types: dict[Ref, Type] = {}
        self.values: dict[Ref, Tensor] = {}

    def size(self, axis: str) -> int:
        """The length of an axis; the number of cells of a cell axis."""
        cells_of = self.space[axis].cells_of
        if cells_of is None:
            return self.env.sizes[axis]
        return len(
            pooling_matrix(cells_of[1], self.env.sizes[cells_of[0]], self.env.grouping_data)[0]
        )

    def flat(self, tensor: Tensor, dims: Sequence[str]) -> Tensor:
        """A tensor of these dimensions with one dimension for each axis, in program order."""
        axes = [leaf for dim in dims for leaf in self.space.leaves(dim)]
        tensor = tensor.reshape([self.env.sizes[axis] for axis in axes])
        return tensor.permute([axes.index(axis) for axis in self.space.ordered(axes)])

    def stored(self, ref: Ref) -> Tensor:
        """A value with its axes in program order, and one dimension for each axis of a group."""
        axes = self.types[ref].axes
        base_axes = self.space.ordered(self.space.base(a) for a in axes)
        full = self.broadcast(ref, base_axes)
        return full.reshape(
            [n for axis in self.space.unsplit(base_axes) for n in self.env.shapes[axis]]
        )

    def aligned(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value with a dimension for each of `axes`, of length one for an axis it lacks."""
        value, value_axes = self.values[ref], list(self.types[ref].axes)
        for position, axis in enumerate(value_axes):
            base = self.space.base(axis)
            if axis not in axes and base in axes:
                cells_of = self.space[axis].cells_of
                assert cells_of is not None
                spread, _ = pooling_matrix(
                    cells_of[1], self.env.sizes[base], self.env.grouping_data
                )
                cell = spread.argmax(dim=0) if len(spread) else torch.zeros(0, dtype=torch.long)
                value = value.index_select(position, cell)
                value_axes[position] = base
        order = [value_axes.index(axis) for axis in axes if axis in value_axes]
        shape = [self.size(axis) if axis in value_axes else 1 for axis in axes]
        return value.permute(order).reshape(shape)

    def broadcast(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value expanded to all of `axes`."""
        return self.aligned(ref, axes).expand([self.size(axis) for axis in axes])
