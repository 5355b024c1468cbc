"""The groups that a module has been given, and what a call makes of them."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import torch.distributed as dist
from torch import Tensor, nn

from metanorm.runtime.processes.call import Members, Processes
from metanorm.runtime.processes.dividable import AmongProcesses, Dividable, outputs_of
from metanorm.runtime.processes.errors import ShardingError

ATTRIBUTE = "process_groups"  # of a module, not of its class: others have no such attribute
When = Literal["train", "always"]
Group = Any  # a `dist.ProcessGroup`, a `DeviceMesh` of one dimension, or `None` for all processes

_silent = 0  # how many `no_exchange` are in force


class ProcessGroups(Mapping[str, Group]):
    """For each divided axis of a norm, the group of processes that have its pieces.

    Cannot be changed. Copies of a module share it; files cannot hold it, as other processes read
    them.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        norm: Dividable,
        owner: str,
        when: When = "train",
    ) -> None:
        self._groups = dict(groups)
        self.norm = norm
        self.owner = owner
        self.when = when
        self.identity = zlib.crc32(f"{owner} {norm.digest}".encode()) & 0x7FFFFFFF
        self.variant: AmongProcesses | None = norm.variant(frozenset(groups))
        self.samples = frozenset(norm.samples)

    def __getitem__(self, axis: str) -> Group:
        return self._groups[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        shown = ", ".join(f"{axis!r}: {shown_group(g)}" for axis, g in self._groups.items())
        return f"{{{shown}}}"

    def __copy__(self) -> ProcessGroups:
        return self

    def __deepcopy__(self, memo: object) -> ProcessGroups:
        return self

    def __reduce__(self) -> NoReturn:
        raise ShardingError(
            f"{self.owner}: groups of processes cannot be written to a file. Save "
            "`model.state_dict()`, which is what it is without them, or call "
            "metanorm.runtime.revert_sync(model) first"
        )

    def members(self, training: bool) -> dict[str, Members]:
        """The groups of a call that have more than one process, by their axes."""
        found: dict[str, Members] = {}
        if _silent or self.variant is None:
            return found
        for axis, group in self._groups.items():
            if training or self.when == "always" or axis not in self.samples:
                name, size = _resolved(group)
                if size > 1:
                    found[axis] = Members(name, size)
        return found


def must_exchange(module: nn.Module) -> bool:
    """Whether a call of a module that holds groups sends messages."""
    return bool(module.__dict__[ATTRIBUTE].members(module.training))


def call_among_processes(module: nn.Module, *inputs: Any, **named: Any) -> Any:
    """The result of a norm for pieces of its axes."""
    held: ProcessGroups = module.__dict__[ATTRIBUTE]
    x: Tensor = inputs[0]
    processes = Processes(
        held.members(module.training), held.owner, held.identity, x, outputs_of(module)
    )
    assert held.variant is not None
    return held.variant.forward(module, processes, *inputs, **named)


def _resolved(group: Group) -> tuple[str, int]:
    """The name and size of a group; those of all processes where there is none."""
    if not dist.is_available() or not dist.is_initialized():
        return "", 1
    own = as_process_group(group)
    return own.group_name, own.size()


# As `torch.compiler.assume_constant_result` has it, which would import the frontend: a second.
_resolved._dynamo_marked_constant = True  # type: ignore[attr-defined]


def as_process_group(group: Group) -> Any:
    """The group of `torch.distributed` that is meant. Raises `ShardingError` for anything else, and
    for a group that this process is not a member of."""
    if group is None:
        return dist.distributed_c10d._get_default_group()
    if hasattr(group, "get_group") and hasattr(group, "ndim"):
        if group.ndim != 1:
            raise ShardingError(
                f"a device mesh of {group.ndim} dimensions: give the one that divides the axis, as "
                'in `mesh["tp"]`'
            )
        return group.get_group()
    if isinstance(group, int) or group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ShardingError(
            "this process is not a member of the group: `new_group` returns it to all processes, "
            "also to those that are not in it, which must not call the norm"
        )
    if not isinstance(group, dist.ProcessGroup):
        raise ShardingError(
            f"a group is a ProcessGroup, a DeviceMesh or None, got {type(group).__name__}"
        )
    return group


def shown_group(group: Group) -> str:
    """A group as `repr` of a module shows it."""
    if not dist.is_available() or not dist.is_initialized():
        return "all processes" if group is None else "a group"
    return f"{_resolved(group)[1]} processes"


@contextmanager
def no_exchange() -> Iterator[None]:
    """Have norms measure the piece of this process alone, as if nothing were divided.

    For all threads of the process. Every process has to do so, or else none of those that call the
    norm meanwhile: a process that waits for others waits until its group gives up.
    """
    global _silent
    _silent += 1
    try:
        yield
    finally:
        _silent -= 1
