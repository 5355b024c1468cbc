"""One call of a norm among processes: its groups, and the messages between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.processes.errors import ExchangeError, ShardingError
from metanorm.runtime.processes.message import sum_over_processes


class GroupInfo(NamedTuple):
    """A group of processes: its name in `torch.distributed`, and its size."""

    name: str
    size: int


class Processes:
    """The groups of processes among which the axes of a call are divided, by axis."""

    def __init__(
        self, groups: Mapping[str, GroupInfo], owner: str, identity: int, like: Tensor, output: Any
    ) -> None:
        self.groups = groups
        self.owner = owner  # what errors call the norm
        self.identity = identity
        self.like = like
        self.output = output

    def exchange(self, stage: int, axes: str, *values: Tensor | float) -> Any:
        """The sums of values over all processes among which any of `axes` is divided.

        All values are sent in one message for each group, in the order of the axes, in float64. The
        result is a tensor, or a tuple for several values.
        """
        parts = [self._as_float64(value) for value in values]
        message = torch.cat([part.reshape(-1) for part in parts]) if len(parts) > 1 else parts[0]
        flat = message.reshape(-1)
        groups = dict.fromkeys(self.groups[a] for a in axes.split() if a in self.groups)
        for group in groups:
            flat = self._sum_over_group(flat, group, stage, axes)
        if len(parts) == 1:
            return flat.reshape(parts[0].shape)
        pieces = torch.split(flat, [part.numel() for part in parts])
        return tuple(piece.reshape(part.shape) for piece, part in zip(pieces, parts))

    def near(
        self, stage: int, axes: str, power_sum: Callable[..., Tensor], x: Tensor,
        power: int, **pool: Any,
    ) -> Tensor | None:  # fmt: skip
        """The mean of each pool, to subtract before squares are summed; `None` if not needed.

        Only data in float64 needs it, at the cost of a message.
        """
        if x.dtype is not torch.float64:
            return None
        with torch.no_grad():
            total, count = (power_sum(t.detach(), 1, **pool) for t in (x, torch.ones_like(x)))
            total, count = self.exchange(stage, axes, total, count)
            mean: Tensor = total / count.masked_fill(count == 0, 1)
            return mean

    def share(self, axis: str, number: int) -> int:
        """How many of the blocks along an axis a process has."""
        size = self.groups[axis].size if axis in self.groups else 1
        if number % size:
            raise ShardingError(
                f"{self.owner}: {number} blocks of {axis} cannot be divided among {size} processes"
            )
        return number // size

    def result(self, *outputs: Tensor) -> Any:
        """What a norm of several outputs returns."""
        return self.output(*outputs)

    def _as_float64(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.double()
        return self.like.new_full((), value, dtype=torch.float64)

    def _sum_over_group(self, flat: Tensor, group: GroupInfo, stage: int, axes: str) -> Tensor:
        if torch.compiler.is_compiling():
            return sum_over_processes(flat, group.name, group.size, self.identity, stage)
        try:
            return sum_over_processes(flat, group.name, group.size, self.identity, stage)
        except ExchangeError as error:
            raise ExchangeError(f"{self.owner}, over {axes}: {error}") from None
        except RuntimeError as error:
            raise ExchangeError(
                f"{self.owner}: the exchange over {axes} among {group.size} processes failed: "
                f"{error}"
            ) from error
