"""Dividing the norms of a model among processes, and taking that back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MethodType
from typing import Any, Literal, TypeVar

import torch.distributed as dist
from torch import Tensor, nn

from metanorm.runtime.processes.dividable import Dividable, dividable
from metanorm.runtime.processes.errors import ShardingError, refused
from metanorm.runtime.processes.process_groups import (
    ATTRIBUTE,
    Group,
    ProcessGroups,
    When,
    as_process_group,
)

M = TypeVar("M", bound=nn.Module)
Reduced = Literal["leave", "sum", "mark"]
HOOKS = "_metanorm_gradient_hooks"


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
    found: list[tuple[nn.Module, Dividable, dict[str, Group], str]] = []
    problems: list[str] = []
    for path, module in model.named_modules():
        known = dividable(module)
        if known is None:
            continue
        owner = f"{path} ({type(module).__name__})" if path else type(module).__name__
        samples = dict.fromkeys(known.samples, process_group)
        reasons = [f"{owner}: {a}: {known.refused[a]}" for a in samples if a in known.refused]
        problems += reasons
        if not reasons and known.variant(frozenset(samples)) is not None:
            found.append((module, known, samples, owner))
    if problems:
        raise refused("these norms cannot take their samples from several processes:", problems)
    _demand_same(
        process_group, [_signature(module, known, owner) for module, known, _, owner in found]
    )
    for module, known, samples, owner in found:
        others = {a: g for a, g in _held(module).items() if a not in samples}
        _give(module, ProcessGroups({**others, **samples}, known, owner, when))
    return model


def revert_sync(model: M) -> M:
    """Have every norm of a model compute for its process alone again. In place."""
    for module in model.modules():
        if ATTRIBUTE in module.__dict__:
            del module.__dict__[ATTRIBUTE]
            module.__dict__.pop("extra_repr", None)
            for hook in module.__dict__.pop(HOOKS, ()):
                hook.remove()
    return model


def synchronized(model: nn.Module) -> dict[str, tuple[str, ...]]:
    """The names of the norms of a model that are divided, each with its axes."""
    return {
        path: tuple(module.__dict__[ATTRIBUTE])
        for path, module in model.named_modules()
        if ATTRIBUTE in module.__dict__
    }


def shard(norm: M, groups: Mapping[str, Group], *, reduce_gradients: Reduced) -> M:
    """Divide axes of one norm among processes: of images, of features, of several at once.

    In place. Parameters and buffers on a divided axis have to be the piece of this process already;
    numbers of blocks are those of the whole axis.

    Args:
        norm: a norm.
        groups: for each axis, by its name in the spec, the processes that have its pieces.
        reduce_gradients: what becomes of the gradient of a parameter that lacks a divided axis,
            which on each process is a part of a sum. `"sum"` adds the parts up after each backward
            pass, `"mark"` sets `parameter.sequence_parallel = True`, by which Megatron adds them
            up, and `"leave"` leaves that to whatever reduces gradients, such as DDP.

    Raises:
        ShardingError: if an axis cannot be divided, with a line for each. Then nothing is changed.
    """
    known = dividable(norm)
    owner = type(norm).__name__
    if known is None:
        raise ShardingError(f"{owner} is no norm that metanorm has generated for data")
    if reduce_gradients not in ("leave", "sum", "mark"):
        raise ValueError(f"reduce_gradients is 'leave', 'sum' or 'mark', got {reduce_gradients!r}")
    problems = [
        f"{owner}: {axis}: {reason}"
        for axis, group in groups.items()
        if (reason := _problem(norm, known, axis, group))
    ]
    if problems:
        raise refused("these axes cannot be divided:", problems)
    held = {**_held(norm), **groups}
    for group in dict.fromkeys(groups.values()):
        _demand_same(group, [(owner, known.digest, tuple(sorted(held)))])
    _give(norm, ProcessGroups(held, known, owner))
    _reduce(norm, known, groups, reduce_gradients)
    return norm


def _held(module: nn.Module) -> Mapping[str, Group]:
    found: Mapping[str, Group] = module.__dict__.get(ATTRIBUTE, {})
    return found


def _give(module: nn.Module, groups: ProcessGroups) -> None:
    module.__dict__[ATTRIBUTE] = groups
    module.__dict__["extra_repr"] = MethodType(_extra_repr, module)


def _extra_repr(module: nn.Module) -> str:
    own = type(module).extra_repr(module)
    return f"{own}, {ATTRIBUTE}={module.__dict__[ATTRIBUTE]}".removeprefix(", ")


def _problem(norm: nn.Module, known: Dividable, axis: str, group: Group) -> str:
    """Why an axis of a norm cannot be divided; empty where it can."""
    if axis in known.refused:
        return known.refused[axis]
    if axis not in known.axes:
        there = ", ".join(known.axes)
        return (
            f"not an axis over which this norm pools: those are {there}"
            if there
            else ("this norm needs nothing from other processes, however its data is divided")
        )
    if axis in known.lacking and axis not in known.samples:
        return (
            f"the output {known.lacking[axis]} does not have it, and all processes would count it"
        )
    if axis in known.shares and dist.is_available() and dist.is_initialized():
        blocks, size = getattr(norm, known.shares[axis]), as_process_group(group).size()
        if blocks % size:
            return (
                f"{blocks} groups cannot be divided among {size} processes: one would lie on "
                "several"
            )
    return ""


def _signature(module: nn.Module, known: Dividable, owner: str) -> tuple[Any, ...]:
    """What has to be the same of a norm on all processes."""
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    return owner, known.digest, tuple((n, tuple(t.shape), str(t.dtype)) for n, t in tensors)


def _demand_same(process_group: Group, own: Any) -> None:
    """Refuse, on all processes, models that differ among them."""
    if not dist.is_available() or not dist.is_initialized():
        return
    group = as_process_group(process_group)
    if group.size() == 1:
        return
    every: list[Any] = [None] * group.size()
    dist.all_gather_object(every, own, group=group)
    differing = [
        f"process {rank}: {_difference(every[0], theirs)}"
        for rank, theirs in enumerate(every)
        if theirs != every[0]
    ]
    if differing:
        raise refused("the processes have other norms than process 0 of their group:", differing)


def _difference(first: list[Any], other: list[Any]) -> str:
    if len(first) != len(other):
        return f"{len(other)} norms to divide, and {len(first)} there"
    mine, theirs = next((a, b) for a, b in zip(other, first) if a != b)
    return f"{mine} instead of {theirs}"


def _reduce(norm: nn.Module, known: Dividable, groups: Iterable[str], how: Reduced) -> None:
    """See to the gradients of parameters that lack a divided axis."""
    hooks = []
    for name, parameter in norm.named_parameters(recurse=False):
        lacked = [a for a in groups if a not in known.parameters.get(name, ())]
        if not lacked or how == "leave":
            continue
        if how == "mark":
            parameter.sequence_parallel = True  # type: ignore[attr-defined]
        else:
            add_up = _Sum([_held(norm)[a] for a in lacked])
            hooks.append(parameter.register_hook(add_up))  # type: ignore[no-untyped-call]
    norm.__dict__[HOOKS] = (*norm.__dict__.get(HOOKS, ()), *hooks)


class _Sum:
    """Adds a gradient up over groups of processes."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups

    def __call__(self, gradient: Tensor) -> Tensor:
        added = gradient.clone()
        for group in dict.fromkeys(self.groups):
            dist.all_reduce(added, group=as_process_group(group))
        return added
