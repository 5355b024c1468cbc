"""The process groups of a module, and its calls among their processes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, NoReturn

import torch.distributed as dist
from torch import Tensor, nn

from metanorm.runtime.processes.axis_pieces import AxisPieces
from metanorm.runtime.processes.call import GroupInfo, Processes
from metanorm.runtime.processes.dividable import AmongProcesses, Dividable, output_class_of
from metanorm.runtime.processes.errors import ShardingError
from metanorm.runtime.processes.parameter_gradients import with_summed_gradients

ATTRIBUTE = "process_groups"  # of an instance: modules that are not divided lack it
When = Literal["train", "always"]
GradientReduction = Literal["leave", "sum", "mark"]
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
        pieces_by_axis: Mapping[str, AxisPieces] = {},
        cut: bool = False,
        reductions: Mapping[str, GradientReduction] = {},
        division_number: int = 0,
        pieces_kept: frozenset[str] = frozenset(),
    ) -> None:
        self._groups = dict(groups)
        self.pieces_by_axis = pieces_by_axis  # of those axes whose length the constructor got
        self.cut = cut  # whether pieces cut blocks
        self.pieces_kept = pieces_kept  # the axes of which `shard` has cut the norm to a piece
        self.reductions = reductions  # by axis: who adds up gradients of parameters that lack it
        self.norm = norm
        self.owner = owner
        self.when = when
        # By `division_number`, the same on all processes, messages of norms of one class differ.
        self.identity = norm.identity(f"{division_number} {owner}")
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
        """The groups of more than one process that a call is divided among, by axis."""
        active: dict[str, GroupInfo] = {}
        if self.variant is None:
            return active
        for axis, group in self._groups.items():
            if training or self.when == "always" or axis not in self.samples:
                name, size = _name_and_size(group)
                if size > 1:
                    self._demand_axis_pieces(axis, size)
                    active[axis] = GroupInfo(name, size)
        return active

    def parts_of_gradients(self, reduction: GradientReduction) -> dict[str, tuple[str, ...]]:
        """For each axis with this reduction, the parameters that lack it."""
        return {
            axis: tuple(name for name, dims in self.norm.parameters.items() if axis not in dims)
            for axis, chosen in self.reductions.items()
            if chosen == reduction
        }

    def gradient_sums(self) -> dict[GroupInfo, tuple[str, ...]]:
        """For each group of more than one process, the parameters whose gradients it adds up."""
        sums: dict[GroupInfo, tuple[str, ...]] = {}
        for axis, names in {} if _suspended else self.parts_of_gradients("sum").items():
            group = GroupInfo(*_name_and_size(self._groups[axis]))
            if names and group.size > 1:
                sums[group] = (*sums.get(group, ()), *names)
        return sums

    def _demand_axis_pieces(self, axis: str, size: int) -> None:
        if axis in self.pieces_by_axis and len(self.pieces_by_axis[axis].lengths) != size:
            raise ShardingError(
                f"{self.owner}: how {axis} lies on {size} processes is not known: call "
                "metanorm.runtime.shard once torch.distributed is initialized"
            )


def must_exchange(module: nn.Module) -> bool:
    """Whether a call of a module with process groups is for `call_among_processes`."""
    groups: ProcessGroups = module.__dict__[ATTRIBUTE]
    active = groups.active_groups(module.training)
    if _suspended:  # without messages, a piece still has its share of the blocks
        return bool(active) and (groups.cut or not groups.norm.shares.keys().isdisjoint(active))
    return bool(active or groups.gradient_sums())


def demand_alone(module: nn.Module, method: str) -> None:
    """Refuse a further method that pools, of a module whose axes are divided among processes:
    `ShardingError`. Only `forward` sends messages."""
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    if groups is not None and not _suspended and groups.active_groups(module.training):
        name = type(module).__name__
        raise ShardingError(
            f"{name}.{method} pools what lies on several processes, and sends no messages: call it "
            f"on a {name} of one process"
        )


def demand_within(module: nn.Module, mesh: Any) -> None:
    """Refuse a `DTensor` of a mesh that lacks a group of the module: `ShardingError`."""
    groups: ProcessGroups | None = module.__dict__.get(ATTRIBUTE)
    if groups is None or _suspended:
        return
    names = {mesh.get_group(d).group_name for d in range(mesh.ndim)}
    others = [a for a, g in groups.active_groups(module.training).items() if g.name not in names]
    if others:
        raise ShardingError(
            f"{groups.owner}: x is a DTensor, and its mesh lacks the group that has the pieces of "
            f"{', '.join(others)}: call metanorm.runtime.revert_sync(norm), and distribute x and "
            "the norm over a mesh that has both, such as "
            '`distribute_tensor(x, mesh["dp", "tp"], [Shard(0), Shard(1)])`'
        )


def call_among_processes(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """Call a norm with the piece of its axes that this process has.

    Raises `ShardingError` within `no_exchange` where a piece has a part of a block.
    """
    module: nn.Module = forward.__self__  # type: ignore[attr-defined]
    groups: ProcessGroups = module.__dict__[ATTRIBUTE]
    norm = with_summed_gradients(module, groups.gradient_sums(), groups.identity, groups.owner)
    active = groups.active_groups(module.training)
    if not active:
        return forward.__func__(norm, *inputs, **named)  # type: ignore[attr-defined]
    if _suspended and groups.cut:
        raise ShardingError(
            f"{groups.owner}: a piece has parts of blocks, whose rest only messages bring: call it "
            "outside of no_exchange"
        )
    inputs, named = tuple(map(_arrived, inputs)), {n: _arrived(x) for n, x in named.items()}
    x: Tensor = inputs[0]
    assert groups.variant is not None
    pieces_by_axis = groups.pieces_by_axis
    if groups.variant.cuts:
        pieces_by_axis = groups.norm.with_whole_axes(module, pieces_by_axis)
    processes = Processes(
        active,
        groups.owner,
        groups.identity,
        x,
        output_class_of(module),
        pieces_by_axis,
        bool(_suspended),
    )
    return groups.variant.forward(norm, processes, *inputs, **named)


def _arrived(x: Any) -> Any:
    """An input; one that a functional collective still computes is waited for."""
    collectives = sys.modules.get("torch.distributed._functional_collectives")
    if type(x) is Tensor or collectives is None:
        return x
    return x.wait() if isinstance(x, collectives.AsyncCollectiveTensor) else x


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
    """Let norms compute statistics of the piece of this process alone, without any message.

    A piece has its share of the blocks of a divided axis still, and is refused where it cuts one.
    Gradients of parameters stay those of this process.

    This holds for all threads of the process. All processes that call a norm meanwhile have to use
    it: any other would wait for messages until its group times out.
    """
    global _suspended
    _suspended += 1
    try:
        yield
    finally:
        _suspended -= 1
