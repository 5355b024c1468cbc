"""One message of largest values over the processes of a group, and its derivative.

A smallest value is sent as the largest of the negative ones. Numbers travel as whole numbers in the
same order: what a backend makes of NaN among floating-point numbers is not the same everywhere, and
here NaN is larger than all others, so that every process gets it. A process without elements sends
the smallest whole number, which no floating-point number is.

The elements of all processes that equal the largest value share its gradient, as those of one
process do: the message back has the gradient and the number of these elements.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.processes.message import (
    BACKWARD,
    FORWARD,
    TAGS,
    demand_one_message,
    failures_named,
    must_check,
    sum_over_processes,
    tag_of,
)

Group = tuple[str, int]  # its name in `torch.distributed`, and its size
LARGEST_INTEGER = 2**63 - 1
NO_ELEMENTS = -(2**63)


def largest_over_processes(
    values: Tensor, ties: Tensor, groups: tuple[Group, ...], identity: int, stage: int, place: str
) -> Tensor:
    """The largest of the values of all processes; zero where none of them has elements.

    `values` is a vector of float64, and `ties` has for each how many elements of this process equal
    it: none if it has no elements, or if the value is NaN.
    """
    function = _CompiledLargest if torch.compiler.is_compiling() else _Largest
    largest: Tensor = function.apply(values, ties, groups, identity, stage, place)  # type: ignore[no-untyped-call]
    return largest


class _CompiledLargest(torch.autograd.Function):
    """The largest value, for `torch.compile`."""

    @staticmethod
    def forward(
        values: Tensor, ties: Tensor, groups: tuple[Group, ...], identity: int, stage: int,
        place: str,
    ) -> Tensor:  # fmt: skip
        sortable = _sortable_integers(values, ties).reshape(-1)
        for group in groups:
            sortable = _largest_of_group(sortable, group, identity, stage, place)
        return _floating(sortable).reshape(values.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        values, ties, *ctx.sent = inputs
        ctx.save_for_backward(values, ties, output)
        ctx.save_for_forward(values, ties, output)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        own_ties, (groups, identity, stage, place) = _own_ties(ctx), ctx.sent
        both = torch.stack((gradients[0].expand_as(own_ties), own_ties))
        for name, size in groups:
            both = sum_over_processes(both, name, size, identity, stage, place, BACKWARD)
        return both[0] * (own_ties / both[1]), None, None, None, None, None


class _Largest(_CompiledLargest):
    """The same with methods for `torch.func`, and with errors that say what failed."""

    @staticmethod
    def forward(values: Tensor, ties: Tensor, groups: tuple[Group, ...], *message: Any) -> Tensor:
        with failures_named(message[-1], math.prod(size for _, size in groups)):
            return _CompiledLargest.forward(values, ties, groups, *message)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        own_ties, (groups, identity, stage, place) = _own_ties(ctx), ctx.sent
        both = torch.stack((tangent * own_ties, own_ties))
        for name, size in groups:
            both = sum_over_processes(both, name, size, identity, stage, place, FORWARD)
        return both[0] / both[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], values: Tensor, ties: Tensor, *sent: Any) -> Any:
        pair = (
            x.movedim(d, 0) if d is not None else x[None] for x, d in zip((values, ties), in_dims)
        )
        batched = torch.broadcast_tensors(*pair)  # type: ignore[no-untyped-call]
        return _Largest.apply(*batched, *sent), 0  # type: ignore[no-untyped-call]


def _own_ties(ctx: Any) -> Tensor:
    """How many elements of this process equal the largest value of all processes."""
    values, ties, largest = ctx.saved_tensors
    return torch.where(values == largest, ties, 0.0)


def _largest_of_group(
    sortable: Tensor, group: Group, identity: int, stage: int, place: str
) -> Tensor:
    """The largest whole numbers of a group. The message begins with a tag and its negative, whose
    largest ones are opposite if all processes have sent the same tag. The tag of a process that
    refuses the call is larger than all others."""
    name, _ = group
    tag = tag_of(identity, stage, FORWARD, sortable.numel()) + (0 if identity >= 0 else TAGS)
    header = torch.stack((sortable.new_full((), tag), sortable.new_full((), -tag)))
    operations = torch.ops._c10d_functional
    message = torch.cat((header, sortable))
    received: Tensor = operations.wait_tensor(operations.all_reduce(message, "max", name))
    if not torch.compiler.is_compiling() and must_check(received):
        highest, lowest = received[:2].tolist()
        demand_one_message(highest == -lowest, highest > TAGS, place)
    return received[2:]


def _sortable_integers(values: Tensor, ties: Tensor) -> Tensor:
    """Whole numbers in the order of float64: its bits, of which those of negative ones descend."""
    is_nan = values.isnan()
    bits = (values + 0.0).masked_fill(is_nan, torch.nan).view(torch.int64)  # one zero, one NaN
    sortable = torch.where(bits < 0, bits ^ LARGEST_INTEGER, bits)
    return sortable.masked_fill((ties == 0) & ~is_nan, NO_ELEMENTS)


def _floating(sortable: Tensor) -> Tensor:
    """The numbers of float64 that whole numbers stand for; zero for no elements."""
    bits = torch.where(sortable < 0, sortable ^ LARGEST_INTEGER, sortable)
    return bits.view(torch.float64).masked_fill(sortable == NO_ELEMENTS, 0.0)
