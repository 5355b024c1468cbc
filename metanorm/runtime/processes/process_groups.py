"""The process groups of a module, and its calls among their processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import torch.distributed as dist
from torch import Tensor, nn

from metanorm.runtime.processes.call import GroupInfo, Processes
from metanorm.runtime.processes.dividable import AmongProcesses, Dividable, output_class_of
from metanorm.runtime.processes.errors import ShardingError
from metanorm.runtime.processes.layouts import Layout

ATTRIBUTE = "process_groups"  # of an instance: modules that are not divided lack it
When = Literal["train", "always"]
Group = Any  # a `dist.ProcessGroup`, a `DeviceMesh` of one dimension, or `None` for all processes

_suspended = 0  # the number of `no_exchange` contexts


class ProcessGroups(Mapping[str, Group]):
    """For each divided axis of a norm, the group of processes that have its pieces.

    It is immutable, and copies of a module share it. It cannot be pickled: another process may
    read the file.
    """

    def __init__(
        self,
        groups: Mapping[str, Group],
        norm: Dividable,
        owner: str,
        when: When = "train",
        layouts: Mapping[str, Layout] = {},
        cut: bool = False,
    ) -> None:
        self._groups = dict(groups)
        self.layouts = layouts  # of those axes whose length the constructor got
        self.cut = cut  # whether pieces cut blocks
        self.norm = norm
        self.owner = owner
        self.when = when
        self.identity = norm.identity(owner)
        axes = frozenset(groups)
        variant = norm.variant(axes, cut)
        differs = variant is not None and (variant.sends(axes) or axes & norm.shares.keys())
        self.variant: AmongProcesses | None = variant if differs else None
        self.samples = frozenset(norm.samples)

    def __getitem__(self, axis: str) -> Group:
        return self._groups[axis]

    def __iter__(self) -> Iterator[str]:
        return iter(self._groups)

    def __len__(self) -> int:
        return len(self._groups)

    def __repr__(self) -> str:
        shown = ", ".join(f"{axis!r}: {group_text(g)}" for axis, g in self._groups.items())
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

    def active_groups(self, training: bool) -> dict[str, GroupInfo]:
        """The groups of more than one process that a call exchanges messages with, by axis."""
        active: dict[str, GroupInfo] = {}
        if _suspended or self.variant is None:
            return active
        for axis, group in self._groups.items():
            if training or self.when == "always" or axis not in self.samples:
                name, size = _name_and_size(group)
                if size > 1:
                    self._demand_layout(axis, size)
                    active[axis] = GroupInfo(name, size)
        return active

    def _demand_layout(self, axis: str, size: int) -> None:
        if axis in self.layouts and len(self.layouts[axis].lengths) != size:
            raise ShardingError(
                f"{self.owner}: how {axis} lies on {size} processes is not known: call "
                "metanorm.runtime.shard once torch.distributed is initialized"
            )


def must_exchange(module: nn.Module) -> bool:
    """Whether a call of a module with process groups sends messages."""
    return bool(module.__dict__[ATTRIBUTE].active_groups(module.training))


def demand_alone(module: nn.Module, method: str) -> None:
    """Refuse a further method that pools, of a module whose axes are divided among processes:
    `ShardingError`. Only `forward` sends messages."""
    if ATTRIBUTE in module.__dict__ and must_exchange(module):
        name = type(module).__name__
        raise ShardingError(
            f"{name}.{method} pools what lies on several processes, and sends no messages: call it "
            f"on a {name} of one process"
        )


def call_among_processes(module: nn.Module, *inputs: Any, **named: Any) -> Any:
    """Call a norm with the piece of its axes that this process has."""
    groups: ProcessGroups = module.__dict__[ATTRIBUTE]
    x: Tensor = inputs[0]
    assert groups.variant is not None
    layouts = groups.layouts
    if groups.variant.cuts:
        layouts = groups.norm.with_whole_axes(module, layouts)
    processes = Processes(
        groups.active_groups(module.training),
        groups.owner,
        groups.identity,
        x,
        output_class_of(module),
        layouts,
    )
    return groups.variant.forward(module, processes, *inputs, **named)


def _name_and_size(group: Group) -> tuple[str, int]:
    """The name and the size of a group; `None` stands for all processes."""
    if not dist.is_available() or not dist.is_initialized():
        return "", 1
    process_group = as_process_group(group)
    return process_group.group_name, process_group.size()


# As `torch.compiler.assume_constant_result` has it, which would import the frontend: a second.
_name_and_size._dynamo_marked_constant = True  # type: ignore[attr-defined]


def as_process_group(group: Group) -> Any:
    """The group of `torch.distributed` that an argument stands for.

    Raises `ShardingError` for another type, and for a group that this process is not a member of.
    """
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


def group_text(group: Group) -> str:
    """A group as `repr` of a module shows it."""
    if not dist.is_available() or not dist.is_initialized():
        return "all processes" if group is None else "a group"
    return f"{_name_and_size(group)[1]} processes"


@contextmanager
def no_exchange() -> Iterator[None]:
    """Let norms compute statistics of the piece of this process alone, as if nothing were divided.

    This holds for all threads of the process. All processes that call a norm meanwhile have to use
    it: any other would wait for messages until its group times out.
    """
    global _suspended
    _suspended += 1
    try:
        yield
    finally:
        _suspended -= 1
