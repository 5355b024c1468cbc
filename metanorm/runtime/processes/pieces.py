"""The pieces of an axis of fixed length: how they lie on processes, and the state that has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from metanorm.runtime.processes.axis_pieces import AxisPieces, partitions_of
from metanorm.runtime.processes.dividable import Dividable
from metanorm.runtime.processes.process_groups import Group, ProcessGroups, as_process_group


def axis_pieces_of(
    norm: nn.Module, info: Dividable, groups: Mapping[str, Group], pieces: Mapping[str, int]
) -> tuple[dict[str, AxisPieces], list[str]]:
    """How the axes lie that have blocks, or of which `pieces` has the length of this process's
    piece; and what is wrong, alike on all processes. They send each other what they have."""
    pieces_by_axis: dict[str, AxisPieces] = {}
    problems: list[str] = []
    for axis, group in groups.items():
        whole = _length(norm, info, axis)
        if whole is None or not (pieces or info.partitions(axis)):
            continue
        piece = pieces.get(axis)
        gathered, rank = _gathered(group, (whole, piece))
        lengths = [piece if piece is not None else whole for whole, piece in gathered]
        problem = _problem_of_lengths(gathered)
        pieces_by_axis[axis] = AxisPieces(tuple(lengths), rank)
        problem = problem or pieces_by_axis[axis].problem(
            partitions_of(norm, info.partitions(axis))
        )
        problems += [f"{type(norm).__name__}: {axis}: {problem}"] if problem else []
    return pieces_by_axis, problems


def are_cut(norm: nn.Module, info: Dividable, pieces_by_axis: Mapping[str, AxisPieces]) -> bool:
    """Whether any piece of any axis has a part of a block."""
    return any(
        axis_pieces.cuts(partitions_of(norm, info.partitions(axis)))
        for axis, axis_pieces in pieces_by_axis.items()
    )


@torch.no_grad()
def keep_pieces(norm: nn.Module, info: Dividable, pieces_by_axis: Mapping[str, AxisPieces]) -> None:
    """Cut the parameters and buffers of a whole norm down to the pieces of this process."""
    for tensors in (norm._parameters, norm._buffers):
        for name, tensor in tensors.items():
            dims = info.parameters.get(name) or info.buffers.get(name) or ()
            for dim, declared in enumerate(dims) if tensor is not None else ():
                assert tensor is not None
                axis = info.parts.get(declared, declared)
                if axis in pieces_by_axis:
                    tensor.data = _piece(tensor, dim - len(dims), pieces_by_axis[axis])
                    tensor.grad = None
    for axis, axis_pieces in pieces_by_axis.items():
        argument = info.length_argument(axis)
        assert argument is not None
        setattr(norm, argument, axis_pieces.length)


def keep_own_blocks(norm: nn.Module, groups: ProcessGroups) -> None:
    """Give a norm that is cut to a piece the number of blocks of the piece, unless any piece has
    parts of blocks."""
    for axis in () if groups.cut else groups.pieces_kept:
        for kind, number in groups.norm.partitions(axis):
            if kind == "blocks" and isinstance(number, str):
                share = groups.pieces_by_axis[axis].share(getattr(norm, number))
                setattr(norm, number, share)


def is_whole_number(length: object) -> bool:
    """Whether this can be the length of a piece: an integer of Python, or of another library."""
    return hasattr(length, "__index__") and not isinstance(length, (bool, Tensor))


def _piece(tensor: Tensor, dim: int, axis_pieces: AxisPieces) -> Tensor:
    """The piece along a dimension that enumerates positions of an axis, or its blocks."""
    positions = axis_pieces.total // max(tensor.shape[dim], 1)  # of each row
    start, length = axis_pieces.start // max(positions, 1), axis_pieces.length // max(positions, 1)
    return tensor.detach().narrow(dim, start, length).clone()


def _length(norm: nn.Module, info: Dividable, axis: str) -> int | None:
    argument = info.length_argument(axis)
    length = None if argument is None else getattr(norm, argument)
    return length if isinstance(length, int) else None


def _problem_of_lengths(gathered: list[tuple[int, int | None]]) -> str:
    """What is wrong with the lengths of wholes and pieces; empty if nothing is."""
    pieces = [piece for _, piece in gathered if piece is not None]
    if not pieces:
        return ""
    if len(pieces) < len(gathered):
        return "some processes say how long their piece is, and others do not"
    if len({whole for whole, _ in gathered}) > 1:
        return "the norms of the processes have different lengths: each has to be that of the whole"
    whole = gathered[0][0]
    if min(pieces) < 0 or sum(pieces) != whole:
        return f"pieces of {', '.join(map(str, pieces))} do not make up its length of {whole}"
    return ""


def _gathered(group: Group, value: Any) -> tuple[list[Any], int]:
    """What each process of a group has, and the rank of this one in it."""
    if not dist.is_available() or not dist.is_initialized():
        return [value], 0
    process_group = as_process_group(group)
    values: list[Any] = [None] * process_group.size()
    dist.all_gather_object(values, value, group=process_group)
    return values, process_group.rank()
