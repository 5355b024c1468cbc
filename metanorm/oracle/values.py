"""The values of a run: one dimension for each axis, in the order of the program."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metanorm.ir.nodes import (
    Ref,
    Type,
)
from metanorm.oracle.dense import pooling_matrix
from metanorm.oracle.environment import CallEnvironment


class Values:
    """Values by name, and how they line up."""

    def __init__(self, env: CallEnvironment) -> None:
        self.env = env
        self.space = env.space
        self.types: dict[Ref, Type] = {}
        self.values: dict[Ref, Tensor] = {}

    def size(self, axis: str) -> int:
        """The length of an axis; of a cell axis, the number of pools."""
        cells_of = self.space[axis].cells_of
        if cells_of is None:
            return self.env.sizes[axis]
        return len(
            pooling_matrix(cells_of[1], self.env.sizes[cells_of[0]], self.env.grouping_data)[0]
        )

    def flat(self, tensor: Tensor, dims: Sequence[str]) -> Tensor:
        """A tensor as it is given, to one dimension for each axis, in the order of the program."""
        axes = [leaf for dim in dims for leaf in self.space.leaves(dim)]
        tensor = tensor.reshape([self.env.sizes[axis] for axis in axes])
        return tensor.permute([axes.index(axis) for axis in self.space.ordered(axes)])

    def stored(self, ref: Ref) -> Tensor:
        """A value with its axes in the order of the first input, groups of axes spread out."""
        axes = self.types[ref].axes
        wanted = self.space.ordered(self.space.base(a) for a in axes)
        full = self.broadcast(ref, wanted)
        return full.reshape(
            [n for axis in self.space.unsplit(wanted) for n in self.env.shapes[axis]]
        )

    def aligned(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value with a dimension for each of `axes`, of length one where it does not have it."""
        value, own = self.values[ref], list(self.types[ref].axes)
        for position, axis in enumerate(own):
            base = self.space.base(axis)
            if axis not in axes and base in axes:
                cells_of = self.space[axis].cells_of
                assert cells_of is not None
                spread, _ = pooling_matrix(
                    cells_of[1], self.env.sizes[base], self.env.grouping_data
                )
                cell = spread.argmax(dim=0) if len(spread) else torch.zeros(0, dtype=torch.long)
                value = value.index_select(position, cell)
                own[position] = base
        order = [own.index(axis) for axis in axes if axis in own]
        shape = [self.size(axis) if axis in own else 1 for axis in axes]
        return value.permute(order).reshape(shape)

    def broadcast(self, ref: Ref, axes: Sequence[str]) -> Tensor:
        """A value repeated along all of `axes`."""
        return self.aligned(ref, axes).expand([self.size(axis) for axis in axes])
