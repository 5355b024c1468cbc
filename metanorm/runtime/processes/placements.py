"""Which axes of a norm a device mesh divides, from the placements of its `DTensor`s."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeGuard

from torch import Tensor

from metanorm.runtime.processes.axis_pieces import AxisPieces
from metanorm.runtime.processes.call import GroupInfo
from metanorm.runtime.processes.dividable import Dividable

Placements = tuple[Any, ...]  # of one `DTensor`, by dimension of the mesh


class Dim(NamedTuple):
    """A dimension of a tensor: its axis, and its position among those for which that stands."""

    axis: str
    position: int = 0


class CannotPlace(Exception):
    """The pieces cannot be computed one by one: DTensor has to gather what a norm needs."""


def dims_of(declared: Sequence[str], ndim: int, ranks: Mapping[str, int]) -> tuple[Dim, ...]:
    """The dimensions of a tensor. `ranks` has for how many an axis with a star stands, if known.

    Raises `CannotPlace` if the tensor has other dimensions.
    """
    free = [name[1:] for name in declared if name.startswith("*") and name[1:] not in ranks]
    known = sum(ranks.get(name[1:], 0) if name.startswith("*") else 1 for name in declared)
    if len(free) > 1 or ndim < known or (not free and ndim != known):
        raise CannotPlace
    counts = {**ranks, **dict.fromkeys(free, ndim - known)}
    return tuple(
        Dim(name.removeprefix("*"), position)
        for name in declared
        for position in range(counts[name[1:]] if name.startswith("*") else 1)
    )


@dataclass(frozen=True)
class MeshDivision:
    """The dimension that each dimension of a mesh divides; `None` where all have the same."""

    mesh: Any
    divided: tuple[Dim | None, ...]

    def placements(self, dims: Sequence[Dim]) -> Placements:
        """Where the pieces of a tensor with these dimensions have to be."""
        from torch.distributed.tensor import Replicate, Shard

        return tuple(Shard(dims.index(dim)) if dim in dims else Replicate() for dim in self.divided)

    def gradient_placements(self, dims: Sequence[Dim]) -> Placements:
        """Where the gradient of such a tensor is: each piece of the data adds a part to that of a
        tensor that all processes have."""
        from torch.distributed.tensor import Partial, Replicate, Shard

        return tuple(
            Replicate() if dim is None else Shard(dims.index(dim)) if dim in dims else Partial()
            for dim in self.divided
        )

    def groups(self) -> dict[str, GroupInfo]:
        """By axis, the processes that have its pieces.

        Raises `CannotPlace` for an axis that several dimensions of the mesh divide.
        """
        groups: dict[str, GroupInfo] = {}
        for mesh_dim, axis in self.shared():
            if axis in groups:
                raise CannotPlace
            group = self.mesh.get_group(mesh_dim)
            groups[axis] = GroupInfo(group.group_name, group.size())
        return groups

    def axes(self) -> frozenset[str]:
        """The axes that several processes have pieces of."""
        return frozenset(axis for _, axis in self.shared())

    def shared(self) -> Iterator[tuple[int, str]]:
        """The dimensions of the mesh with several processes, each with the axis that it divides."""
        for mesh_dim, dim in enumerate(self.divided):
            if dim is not None and self.mesh.size(mesh_dim) > 1:
                yield mesh_dim, dim.axis


def division_of(tensors: Iterable[tuple[Any, tuple[Dim, ...]]]) -> MeshDivision:
    """How the inputs of a call are divided: of two that disagree, as the first one.

    Raises `CannotPlace` for inputs on different meshes, and for other placements than those of
    `distribute_tensor`.
    """
    mesh, divided = None, list[Dim | None]()
    for tensor, dims in tensors:
        if mesh is None:
            mesh, divided = tensor.device_mesh, [None] * tensor.device_mesh.ndim
        if tensor.device_mesh != mesh:
            raise CannotPlace
        for mesh_dim, placement in enumerate(tensor.placements):
            if not (placement.is_replicate() or placement.is_partial() or is_shard(placement)):
                raise CannotPlace
            if is_shard(placement) and divided[mesh_dim] is None:
                divided[mesh_dim] = dims[placement.dim]
    return MeshDivision(mesh, tuple(divided))


def is_shard(placement: object) -> TypeGuard[Any]:
    """Whether a placement is that of consecutive pieces."""
    from torch.distributed.tensor import Shard

    return type(placement) is Shard


def demand_divisible(division: MeshDivision, info: Dividable) -> None:
    """Raise `CannotPlace` unless the pieces of these axes can be computed one by one."""
    if any(axis in (*info.refused, *info.lacking, *info.aligned) for axis in division.axes()):
        raise CannotPlace


def axis_pieces_among(
    division: MeshDivision, lengths: Mapping[Dim, int], axes: Iterable[str]
) -> dict[str, AxisPieces]:
    """How those of the axes lie that are divided, by the rule for the pieces of a `Shard`."""
    pieces_by_axis: dict[str, AxisPieces] = {}
    for mesh_dim, axis in division.shared():
        if axis in axes:
            size, rank = division.mesh.size(mesh_dim), division.mesh.get_local_rank(mesh_dim)
            total = lengths[Dim(axis)]
            longest = -(-total // size)
            pieces = (min(longest, max(total - r * longest, 0)) for r in range(size))
            pieces_by_axis[axis] = AxisPieces(tuple(pieces), rank)
    return pieces_by_axis


def lengths_of(
    tensors: Iterable[tuple[Tensor, tuple[Dim, ...]]],
) -> dict[Dim, int]:
    """The length of each dimension. Raises `CannotPlace` if two tensors disagree."""
    lengths: dict[Dim, int] = {}
    for tensor, dims in tensors:
        for dim, length in zip(dims, tensor.shape):
            if lengths.setdefault(dim, length) != length:
                raise CannotPlace
    return lengths
