"""Divides the norms of a model among processes, and undoes it."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

import torch.distributed as dist
from torch import nn

from metanorm.runtime.processes.axis_pieces import AxisPieces, partitions_of
from metanorm.runtime.processes.dividable import Dividable, dividable
from metanorm.runtime.processes.errors import ShardingError, refused
from metanorm.runtime.processes.pieces import (
    are_cut,
    axis_pieces_of,
    is_whole_number,
    keep_own_blocks,
    keep_pieces,
)
from metanorm.runtime.processes.process_groups import (
    ATTRIBUTE,
    GradientReduction,
    Group,
    ProcessGroups,
    When,
    as_process_group,
)

M = TypeVar("M", bound=nn.Module)


def convert_sync(model: M, process_group: Group = None, when: When = "train") -> M:
    """Have every norm of a model that pools over samples take them from all processes.

    In place; classes, constructors and `state_dict` stay what they are. Layers of torch are left
    alone: `nn.SyncBatchNorm.convert_sync_batchnorm` converts those.

    Args:
        model: a model, or a norm.
        process_group: the processes that share a batch, each with samples of its own: a
            `ProcessGroup`, a `DeviceMesh` of one dimension, or `None` for all processes.
        when: in training mode alone, as torch does, or `"always"`.

    Raises:
        ShardingError: if a norm cannot take its samples from several processes, with a line for
            each, or the processes do not have the same model. Then nothing is changed.
    """
    if when not in ("train", "always"):
        raise ValueError(f"when is 'train' or 'always', got {when!r}")
    divided: list[tuple[nn.Module, Dividable, dict[str, Group], str]] = []
    problems: list[str] = []
    for path, module in model.named_modules():
        info = dividable(module)
        if info is None:
            continue
        owner = f"{path} ({type(module).__name__})" if path else type(module).__name__
        samples = dict.fromkeys(info.samples, process_group)
        reasons = [f"{owner}: {a}: {info.refused[a]}" for a in samples if a in info.refused]
        problems += reasons
        variant = info.variant(frozenset(samples))
        if not reasons and variant is not None and variant.sends(frozenset(samples)):
            together = {**_groups_of(module), **samples}
            problems += _problems_together(info, owner, together, _cuts(module))
            divided.append((module, info, samples, owner))
    summary = "these norms cannot take their samples from several processes:"
    signatures = [_signature(module, info, owner) for module, info, _, owner in divided]
    further = [g for module, *_ in divided for g in _groups_of(module).values()]
    division_number = _demand_same([process_group], summary, problems, signatures, further)
    for module, info, samples, owner in divided:
        other_groups = {a: g for a, g in _groups_of(module).items() if a not in samples}
        groups = ProcessGroups(
            {**other_groups, **samples}, info, owner, when, _axis_pieces_of(module), _cuts(module),
            {a: r for a, r in _reductions_of(module).items() if a not in samples}, division_number,
            _pieces_kept_by(module),
        )  # fmt: skip
        _set_groups(module, groups)
    return model


def revert_sync(model: M) -> M:
    """Have every norm of a model compute for its process alone again. In place.

    A norm that `shard` has cut to a piece stays the piece. It has the number of blocks of the piece
    then, unless pieces cut blocks.
    """
    for module in model.modules():
        if ATTRIBUTE in module.__dict__:
            _mark_parameters(module, None)
            keep_own_blocks(module, module.__dict__[ATTRIBUTE])
            del module.__dict__[ATTRIBUTE]
            module.__dict__.pop("extra_repr", None)
    return model


def synchronized(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names of the norms of a model that are divided, each with its axes."""
    return {
        path: tuple(module.__dict__[ATTRIBUTE])
        for path, module in model.named_modules()
        if ATTRIBUTE in module.__dict__
    }


def shard(
    norm: M, groups: Mapping[str, Group], *, reduce_gradients: GradientReduction,
    pieces: Mapping[str, int] = {},
) -> M:  # fmt: skip
    """Divide axes of one norm among processes: of images, of features, of several at once.

    In place. Parameters and buffers on a divided axis have to be the piece of this process already,
    unless `pieces` says how long it is; numbers of blocks are those of the whole axis, and pieces
    may cut blocks.

    Args:
        norm: a norm.
        groups: for each axis, by its name in the spec, the processes that have its pieces.
        reduce_gradients: what becomes of the gradient of a parameter that lacks a divided axis,
            which on each process is a part of a sum. `"sum"` adds the parts up in each backward
            pass, `"mark"` sets `parameter.sequence_parallel = True`, by which Megatron adds them
            up, and `"leave"` leaves that to whatever reduces gradients, such as DDP.
        pieces: for axes whose length the constructor got, the length of the piece of this process.
            The norm is that of the whole axis then, and keeps its piece of each parameter and
            buffer. Pieces lie in the order of the processes.

    Raises:
        ShardingError: if an axis cannot be divided, with a line for each. Then nothing is changed.
    """
    info = dividable(norm)
    owner = type(norm).__name__
    if info is None:
        raise ShardingError(f"{owner} is no norm that metanorm has generated for data")
    if reduce_gradients not in ("leave", "sum", "mark"):
        raise ValueError(f"reduce_gradients is 'leave', 'sum' or 'mark', got {reduce_gradients!r}")
    problems = _problems_of_axes(norm, info, groups, pieces)
    all_groups = {**_groups_of(norm), **groups}
    blocks = [partitions_of(norm, info.partitions(axis)) for axis in groups]
    signature = _Signature(owner, info.digest, (*sorted(all_groups), *map(str, blocks)))
    summary = "these axes cannot be divided:"
    further = _groups_of(norm).values()
    division_number = _demand_same(groups.values(), summary, problems, [signature], further)
    new_pieces, problems = axis_pieces_of(norm, info, groups, pieces)
    pieces_by_axis = {**_axis_pieces_of(norm), **new_pieces}
    cut = are_cut(norm, info, pieces_by_axis)
    problems = problems or _problems_together(info, owner, all_groups, cut)
    if problems:
        raise refused(summary, problems)
    keep_pieces(norm, info, {axis: new_pieces[axis] for axis in pieces})
    pieces_kept = _pieces_kept_by(norm) | pieces.keys()
    reductions = {**_reductions_of(norm), **dict.fromkeys(groups, reduce_gradients)}
    owner, when = _owner_and_when(norm, owner)
    groups_of_norm = ProcessGroups(
        all_groups, info, owner, when, pieces_by_axis, cut, reductions, division_number, pieces_kept
    )
    _set_groups(norm, groups_of_norm)
    return norm


def _groups_of(module: nn.Module) -> Mapping[str, Group]:
    groups: Mapping[str, Group] = module.__dict__.get(ATTRIBUTE, {})
    return groups


def _axis_pieces_of(module: nn.Module) -> Mapping[str, AxisPieces]:
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    return {} if groups is None else groups.pieces_by_axis


def _pieces_kept_by(module: nn.Module) -> frozenset[str]:
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    return frozenset() if groups is None else groups.pieces_kept


def _reductions_of(module: nn.Module) -> Mapping[str, GradientReduction]:
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    return {} if groups is None else groups.reductions


def _owner_and_when(module: nn.Module, owner: str) -> tuple[str, When]:
    """What errors call a norm, and when it takes samples from others: as `convert_sync` has said,
    if it was called."""
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    return (owner, "train") if groups is None else (groups.owner, groups.when)


def _cuts(module: nn.Module) -> bool:
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    return groups is not None and groups.cut


def _problems_together(info: Dividable, owner: str, axes: Iterable[str], cut: bool) -> list[str]:
    """Why axes that can be divided one by one cannot be divided so at once; empty if they can."""
    names = frozenset(axes)
    if not info.variants or info.variant(names, cut) is not None:
        return []
    if cut and info.variant(names) is not None:
        return [f"{owner}: {', '.join(sorted(names))}: a piece would have parts of blocks"]
    return [f"{owner}: {' and '.join(sorted(names))} cannot be divided at once"]


def _set_groups(module: nn.Module, groups: ProcessGroups) -> None:
    _mark_parameters(module, groups)
    module.__dict__[ATTRIBUTE] = groups
    module.__dict__["extra_repr"] = _ExtraRepr(module)


class _ExtraRepr:
    """`extra_repr` of a module that is divided. A deep copy of the module copies this, too, behind
    its parameters, and marks those for Megatron whose originals are marked: torch copies none of
    their attributes."""

    def __init__(self, module: nn.Module) -> None:
        self._module = module

    def __call__(self) -> str:
        base_text = type(self._module).extra_repr(self._module)
        return f"{base_text}, {ATTRIBUTE}={self._module.__dict__[ATTRIBUTE]}".removeprefix(", ")

    def __deepcopy__(self, memo: dict[int, Any]) -> _ExtraRepr:
        marked = _marked(self._module.__dict__[ATTRIBUTE])
        for name, parameter in self._module.named_parameters(recurse=False):
            if name in marked and id(parameter) in memo:
                memo[id(parameter)].sequence_parallel = True
        return _ExtraRepr(copy.deepcopy(self._module, memo))


def _problems_of_axes(
    norm: nn.Module, info: Dividable, groups: Mapping[str, Group], pieces: Mapping[str, int]
) -> list[str]:
    """Why axes of a norm cannot be divided so, as far as this process knows by itself."""
    owner = type(norm).__name__
    problems = [
        f"{owner}: {axis}: {reason}"
        for axis, group in groups.items()
        if (reason := _division_problem(norm, info, axis, group))
    ]
    problems += [
        f"{owner}: {axis}: its length is no argument of a constructor, or it is not divided"
        for axis in pieces
        if axis not in groups or info.length_argument(axis) is None
    ]
    problems += [
        f"{owner}: {axis}: the length of a piece is a whole number, got {length!r}"
        for axis, length in pieces.items()
        if not is_whole_number(length)
    ]
    return problems


def _division_problem(norm: nn.Module, info: Dividable, axis: str, group: Group) -> str:
    """Why an axis of a norm cannot be divided; empty if it can."""
    if axis in info.refused:
        return info.refused[axis]
    known = {d.removeprefix("*") for dims in info.inputs.values() for d in dims}
    if axis not in known:
        return f"not an axis of its inputs: those are {', '.join(sorted(known))}"
    if info.axes and axis not in info.axes:
        return f"not an axis over which this norm pools: those are {', '.join(info.axes)}"
    if axis in info.lacking and axis not in info.samples:
        return f"the output {info.lacking[axis]} does not have it, and all processes would count it"
    if axis in info.shares and info.length_argument(axis) is None and _is_initialized():
        blocks, size = getattr(norm, info.shares[axis]), as_process_group(group).size()
        if blocks % size:
            return (
                f"{blocks} groups cannot be divided among {size} processes: one would lie on "
                "several"
            )
    return ""


def _is_initialized() -> bool:
    return dist.is_available() and dist.is_initialized()


class _Signature(NamedTuple):
    """What must be the same for a norm in all processes."""

    owner: str
    digest: str
    details: tuple[str, ...]  # as errors show them


def _signature(module: nn.Module, info: Dividable, owner: str) -> _Signature:
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    details = (f"{n} has shape {tuple(t.shape)} and {t.dtype}" for n, t in tensors)
    return _Signature(owner, info.digest, tuple(details))


_last_division_number = 0  # of a call of `convert_sync` or `shard` among processes


def _demand_same(
    groups: Iterable[Group], summary: str, problems: list[str], signatures: list[_Signature],
    further_groups: Iterable[Group],
) -> int:  # fmt: skip
    """Raise `ShardingError` in all processes of these groups if one of them has problems, or if
    their norms differ. Each process sends what it has before any raises.

    Returns the number of this call, on which the processes agree, and those of the groups that
    divide the norms already. Messages have it, so that norms of one class are told apart; processes
    may have called this for other norms before.
    """
    global _last_division_number
    division_number = _last_division_number
    elsewhere: list[str] = []
    differing: list[str] = []
    compared = tuple(groups)
    for group in dict.fromkeys((*compared, *further_groups)) if _is_initialized() else ():
        process_group = as_process_group(group)
        answers: list[Any] = [None] * process_group.size()
        dist.all_gather_object(
            answers, (problems, signatures, division_number), group=process_group
        )
        division_number = max(last for *_, last in answers)
        for rank, (reasons, other, _) in enumerate(answers):
            if rank != process_group.rank():
                elsewhere += [f"process {rank}: {reason}" for reason in reasons]
            if group in compared and other != answers[0][1]:
                differing.append(f"process {rank}: {_difference_text(answers[0][1], other)}")
    if problems or elsewhere:
        raise refused(summary, problems or elsewhere)
    if differing:
        raise refused("the processes have other norms than process 0 of their group:", differing)
    if not _is_initialized():
        return 0  # processes that have not met may have converted another number of models
    _last_division_number = division_number + 1
    return _last_division_number


def _difference_text(first: list[_Signature], other: list[_Signature]) -> str:
    if len(first) != len(other):
        return f"{len(other)} norms to divide, and {len(first)} there"
    ours, theirs = next((a, b) for a, b in zip(other, first) if a != b)
    if ours.owner != theirs.owner:
        return f"{ours.owner} instead of {theirs.owner}"
    pairs = zip(ours.details, theirs.details)
    here, there = next((pair for pair in pairs if pair[0] != pair[1]), ("", ""))
    if here:
        return f"{ours.owner}: {here}, and on process 0 {there}"
    return f"{ours.owner}: it is made from another spec, or with other arguments"


def _mark_parameters(module: nn.Module, groups: ProcessGroups | None) -> None:
    """Mark the parameters whose gradients Megatron has to add up, instead of those marked now."""
    before: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    old, new = (_marked(g) for g in (before, groups))
    for name, parameter in module.named_parameters(recurse=False):
        if name in new:
            parameter.sequence_parallel = True  # type: ignore[attr-defined]
        elif name in old:
            parameter.__dict__.pop("sequence_parallel", None)


def _marked(groups: ProcessGroups | None) -> set[str]:
    parts = {} if groups is None else groups.parts_of_gradients("mark")
    return {name for names in parts.values() for name in names}
