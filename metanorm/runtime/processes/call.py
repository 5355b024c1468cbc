"""One call of a norm among processes: its groups, and the messages between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from metanorm.runtime.processes.axis_pieces import AxisPieces
from metanorm.runtime.processes.errors import ExchangeError, ShardingError
from metanorm.runtime.processes.extremes import largest_over_processes
from metanorm.runtime.processes.message import refusing, sum_over_processes


class GroupInfo(NamedTuple):
    """A group of processes: its name in `torch.distributed`, and its size."""

    name: str
    size: int


class Processes:
    """The groups of processes among which the axes of a call are divided, by axis, and how axes
    with blocks lie on them."""

    def __init__(
        self, groups: Mapping[str, GroupInfo], owner: str, identity: int, like: Tensor, output: Any,
        pieces_by_axis: Mapping[str, AxisPieces] = {}, is_silent: bool = False,
    ) -> None:  # fmt: skip
        self.groups = groups
        self.is_silent = is_silent  # sends nothing: sums are those of this process
        self.pieces_by_axis = pieces_by_axis
        self.owner = owner  # what errors call the norm
        self.identity = identity
        self.like = like
        self.output = output
        self.refusal: Exception | None = None  # why this process cannot run the call as it should

    def exchange(
        self, stage: int, axes: str, *values: Tensor | float,
        gradient_of: Sequence[Tensor | None] | None = None,
    ) -> Any:  # fmt: skip
        """The sums of values over all processes among which any of `axes` is divided.

        All values are sent in one message for each group, in the order of the axes, in float64. The
        result is a tensor, or a tuple for several values. A message goes back where one of
        `gradient_of` wants a gradient; by default where one of the values does.
        """
        parts = [self._as_float64(value) for value in values]
        message = torch.cat([part.reshape(-1) for part in parts]) if len(parts) > 1 else parts[0]
        flat = _wanting_gradient(message.reshape(-1), gradient_of)
        place = self._place(axes)
        for name, size in self._groups_of(axes):
            send = partial(sum_over_processes, flat, name, size, self._sent_identity, stage, place)
            flat = self._sent(send)
        return _taken_apart(flat, parts)

    def extremes(
        self, stage: int, axes: str, *extremes: tuple[str, Tensor, Tensor | float],
        gradient_of: Sequence[Tensor | None] | None = None,
    ) -> Any:  # fmt: skip
        """The `"max"` or `"min"` of values over all processes among which any of `axes` is divided.

        Beside each value is the number of local elements that equal it. All are sent in one message
        for each group, and where a gradient arrives, one goes back.
        """
        values = [-value.double() if statistic == "min" else value.double()
                  for statistic, value, _ in extremes]  # fmt: skip
        ties = [self._as_float64(number).expand_as(v) for v, (*_, number) in zip(values, extremes)]
        flat, counts = (torch.cat([x.reshape(-1) for x in several]) for several in (values, ties))
        flat = _wanting_gradient(flat, gradient_of)
        groups = self._groups_of(axes)
        if groups:
            send = partial(
                largest_over_processes, flat, counts.detach(), groups, self._sent_identity, stage,
                self._place(axes),
            )  # fmt: skip
            flat = self._sent(send)
        largest = _taken_apart(flat, values)
        if len(extremes) == 1:
            return -largest if extremes[0][0] == "min" else largest
        return tuple(
            -x if statistic == "min" else x for x, (statistic, *_) in zip(largest, extremes)
        )

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
        if axis in self.pieces_by_axis:
            return self.pieces_by_axis[axis].share(number)
        if number % size:
            raise ShardingError(
                f"{self.owner}: {number} blocks of {axis} cannot be divided among {size} processes"
            )
        return number // size

    def labels(self, axis: str, kind: str, number: int) -> Tensor:
        """The block of each position of the piece of this process, among those of all pieces."""
        return self.pieces_by_axis[axis].labels(kind, number, self.like.device)

    def blocks(self, axis: str, kind: str, number: int) -> int:
        """How many blocks the whole of an axis has."""
        return self.pieces_by_axis[axis].blocks(kind, number)

    def result(self, *outputs: Tensor) -> Any:
        """What a norm of several outputs returns."""
        return self.output(*outputs)

    def _as_float64(self, value: Tensor | float) -> Tensor:
        if isinstance(value, Tensor):
            return value.double()
        return self.like.new_full((), value, dtype=torch.float64)

    @property
    def _sent_identity(self) -> int:
        """The identity in messages, by which others learn that this process refuses the call."""
        return self.identity if self.refusal is None else refusing(self.identity)

    def demand_served(self) -> None:
        """Raise what this process has to refuse the call for, once others cannot wait for it."""
        if self.refusal is not None:
            raise self.refusal

    def _groups_of(self, axes: str) -> tuple[GroupInfo, ...]:
        """The groups among which any of these axes is divided, in the order of the axes."""
        sending = {} if self.is_silent else self.groups
        return tuple(dict.fromkeys(sending[a] for a in axes.split() if a in sending))

    def _place(self, axes: str) -> str:
        """What a message is for, as its errors say: the norm, and those of the axes that are
        divided."""
        return f"{self.owner}, over {', '.join(a for a in axes.split() if a in self.groups)}"

    def _sent(self, send: Callable[[], Tensor]) -> Tensor:
        """What arrives where all processes have sent a message."""
        if torch.compiler.is_compiling():
            return send()
        try:
            total = send()
        except ExchangeError:
            self.demand_served()
            raise
        self.demand_served()
        return total


def _wanting_gradient(flat: Tensor, gradient_of: Sequence[Tensor | None] | None) -> Tensor:
    """A message that wants a gradient exactly if one of these tensors does, on every process alike.

    What a kernel computes wants one where any of its inputs does. Torch decides for each value.
    """
    if gradient_of is None or torch.compiler.is_compiling():
        return flat
    wants = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in gradient_of)
    return flat if flat.requires_grad == wants else flat.detach().requires_grad_(wants)


def _taken_apart(flat: Tensor, parts: Sequence[Tensor]) -> Any:
    """The values of a message, in the shapes of its parts: a tensor, or a tuple of several."""
    if len(parts) == 1:
        return flat.reshape(parts[0].shape)
    pieces = torch.split(flat, [part.numel() for part in parts])
    return tuple(piece.reshape(part.shape) for piece, part in zip(pieces, parts))
