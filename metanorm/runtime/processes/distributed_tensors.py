"""Calls of a norm with `DTensor`s: each process computes its pieces, and sends what pools need.

The mesh and the placements of the inputs say which processes have pieces of which axis. Results and
gradients are `DTensor`s again.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from metanorm.runtime.processes.call import GroupInfo, Processes
from metanorm.runtime.processes.dividable import Dividable, dividable, output_class_of
from metanorm.runtime.processes.pieces import are_cut
from metanorm.runtime.processes.placements import (
    CannotPlace,
    Dim,
    Placements,
    axis_pieces_among,
    demand_divisible,
    dims_of,
    division_of,
    lengths_of,
)
from metanorm.runtime.processes.process_groups import ATTRIBUTE


def call_on_pieces(module: nn.Module, inputs: Sequence[Any], named: Mapping[str, Any]) -> Any:
    """The result of a norm, computed piece by piece. All its tensors are `DTensor`s.

    Raises `CannotPlace` before any message if DTensor has to gather instead: for pools that need
    the whole of an axis, and for placements that may cut a graph or a block.
    """
    info = dividable(module)
    if info is None:
        raise CannotPlace
    return _PiecewiseCall(module, info, inputs, named).result()


class _PiecewiseCall:
    def __init__(
        self, module: nn.Module, info: Dividable, inputs: Sequence[Any], named: Mapping[str, Any]
    ) -> None:
        self.module, self.info = module, info
        arguments = inspect.signature(module.forward).bind(*inputs, **named).arguments
        present = {name: x for name, x in arguments.items() if x is not None}
        self.inputs = {name: x for name, x in present.items() if name in info.inputs}
        # Such as how many graphs there are, which is the same on all processes.
        self.numbers = {name: n for name, n in present.items() if name not in info.inputs}
        if not info.parameters.keys() <= module._parameters.keys():
            raise CannotPlace  # a parametrization or pruning computes one
        ranks = {
            axis: len(length)
            for name, axis in info.lengths.items()
            if isinstance(length := getattr(module, name), tuple)
        }
        self.dims = {n: dims_of(info.inputs[n], x.dim(), ranks) for n, x in self.inputs.items()}
        placed = [(x, self.dims[name]) for name, x in self.inputs.items()]
        self.division = division_of(placed)
        state = [*module._parameters.values(), *module._buffers.values()]
        if any(cast(Any, t).device_mesh != self.division.mesh for t in state if t is not None):
            raise CannotPlace
        demand_divisible(self.division, info)
        self.lengths = lengths_of(placed)
        with_blocks = {*info.blocks, *info.shares}
        self.pieces_by_axis = axis_pieces_among(self.division, self.lengths, with_blocks)
        cut = are_cut(module, info, self.pieces_by_axis)
        axes = self.division.axes()
        fitting = info.variant(axes, cut)
        if cut and fitting is None:
            raise CannotPlace
        self.variant = fitting if fitting is not None and fitting.sends(axes) else None
        self.ranks = {**Counter(dim.axis for dim in self.lengths), **ranks}
        self._demand_lengths()

    def result(self) -> Any:
        """The output, or the named tuple of several."""
        variant = self.variant
        groups = self.division.groups() if variant is not None else {}
        stand_in = self._local_module(is_exchanging=variant is not None)
        pieces = {name: self._piece(x, self.dims[name]) for name, x in self.inputs.items()}
        local_lengths = lengths_of([(x, self.dims[name]) for name, x in pieces.items()])
        self._set_lengths(stand_in, local_lengths)
        if variant is None:
            result = type(self.module).forward(stand_in, **pieces, **self.numbers)
        else:
            processes = self._processes(groups, next(iter(pieces.values())))
            result = variant.forward(stand_in, processes, **pieces, **self.numbers)
        if self.module.training or self.info.adapts:
            self._store_buffers(stand_in)
        if isinstance(result, Tensor):
            return self._whole(result, self.info.outputs[0])
        return type(result)(*map(self._whole, result, self.info.outputs))

    def _processes(self, groups: Mapping[str, GroupInfo], x: Tensor) -> Processes:
        owner = type(self.module).__name__
        output_class = output_class_of(self.module)
        identity = self.info.identity(owner)
        pieces_by_axis = self.info.with_whole_axes(self.module, self.pieces_by_axis)
        return Processes(groups, owner, identity, x, output_class, pieces_by_axis)

    # ---- the module on this process

    def _local_module(self, is_exchanging: bool) -> nn.Module:
        """The module with the pieces of its tensors, which share their memory where they can."""
        cls = type(self.module)
        stand_in: nn.Module = cls.__new__(cls)
        stand_in.__dict__ = dict(self.module.__dict__)
        stand_in.__dict__.pop(ATTRIBUTE, None)
        stand_in.__dict__["_parameters"] = {
            name: None if p is None else self._piece(p, self._dims_of(name, p))
            for name, p in self.module._parameters.items()
        }
        stand_in.__dict__["_buffers"] = {
            name: None if buffer is None else self._local_buffer(name, buffer)
            for name, buffer in self.module._buffers.items()
        }
        if not is_exchanging:
            for axis, name in self.info.shares.items():
                if axis in self.pieces_by_axis:
                    share = self.pieces_by_axis[axis].share(getattr(self.module, name))
                    stand_in.__dict__[name] = share
        return stand_in

    def _dims_of(self, name: str, tensor: Tensor) -> tuple[Dim, ...]:
        """The dimensions of a parameter or a buffer. Blocks of an axis are divided as the axis is.

        A matrix that the constructor was given has none of the divided axes.
        """
        declared = self.info.parameters.get(name) or self.info.buffers.get(name)
        if declared is None:
            return tuple(Dim("", position) for position in range(tensor.dim()))
        dims = dims_of(declared, tensor.dim(), self.ranks)
        return tuple(Dim(self.info.parts.get(dim.axis, dim.axis), dim.position) for dim in dims)

    def _buffer_placements(self, name: str, buffer: Tensor) -> Placements:
        return self.division.placements(self._dims_of(name, buffer))

    def _local_buffer(self, name: str, buffer: Any) -> Tensor:
        """The piece of a buffer: its own memory, if it is placed as the call needs it."""
        with torch.no_grad():
            placed = buffer.redistribute(placements=self._buffer_placements(name, buffer))
            local: Tensor = placed.to_local()
        return local

    @torch.no_grad()
    def _store_buffers(self, stand_in: nn.Module) -> None:
        """Give the pieces of buffers that are placed otherwise back to the module."""
        from torch.distributed.tensor import DTensor

        buffers: dict[str, Any] = {n: b for n, b in self.module._buffers.items() if b is not None}
        for name, buffer in buffers.items():
            placements = self._buffer_placements(name, buffer)
            if tuple(buffer.placements) != placements:
                whole = DTensor.from_local(
                    cast(Tensor, stand_in._buffers[name]), self.division.mesh, placements,
                    run_check=False, shape=buffer.shape, stride=buffer.stride(),
                )  # fmt: skip
                buffer.copy_(whole.redistribute(placements=buffer.placements))

    def _demand_lengths(self) -> None:
        """Raise `CannotPlace` where the whole data does not fit the module."""
        for name, axis in self.info.lengths.items():
            length = getattr(self.module, name)
            dims = [Dim(axis, i) for i in range(len(length) if isinstance(length, tuple) else 1)]
            wanted = length if isinstance(length, tuple) else (length,)
            if any(self.lengths.get(d, n) != n for d, n in zip(dims, wanted)):
                raise CannotPlace

    def _set_lengths(self, stand_in: nn.Module, local_lengths: Mapping[Dim, int]) -> None:
        for name, axis in self.info.lengths.items():
            length = getattr(self.module, name)
            if isinstance(length, tuple):
                local = tuple(local_lengths.get(Dim(axis, i), n) for i, n in enumerate(length))
                stand_in.__dict__[name] = local
            else:
                stand_in.__dict__[name] = local_lengths.get(Dim(axis), length)

    # ---- tensors

    def _piece(self, tensor: Any, dims: tuple[Dim, ...]) -> Tensor:
        """What this process has of a tensor, after it is placed as the call needs it."""
        placements = self.division.placements(dims)
        if tuple(tensor.placements) != placements:  # else gradients stay sums of what pieces add
            tensor = tensor.redistribute(placements=placements)
        piece: Tensor = tensor.to_local(grad_placements=self.division.gradient_placements(dims))
        return piece

    def _whole(self, piece: Tensor, declared: Sequence[str]) -> Any:
        """The output of which this process has computed a piece."""
        from torch.distributed.tensor import DTensor

        dims = dims_of(declared, piece.dim(), self.ranks)
        shape = torch.Size(
            self.lengths[dim] if dim in self.division.divided else length
            for dim, length in zip(dims, piece.shape)
        )
        return DTensor.from_local(
            piece, self.division.mesh, self.division.placements(dims),
            run_check=False, shape=shape, stride=_strides(shape, piece),
        )  # fmt: skip


def _strides(shape: Sequence[int], piece: Tensor) -> tuple[int, ...]:
    """The strides of a dense tensor whose dimensions lie in memory as those of a piece do."""
    strides, step = [0] * len(shape), 1
    for d in sorted(range(len(shape)), key=lambda d: (piece.stride(d), -d)):
        strides[d] = step
        step *= max(shape[d], 1)
    return tuple(strides)
