"""One message: the sum of a few numbers over the processes of a group, and its derivative.

The operations are those that `torch.compile` knows, and the derivative is written down here:
`torch.distributed.all_reduce` has none, and other ways to it give tensors that kernels do not take.

Messages are in double precision, and begin with two numbers that say which message this is: a tag t
and its square. All processes have sent the same one exactly if W * sum(t^2) is sum(t)^2, where W is
the number of processes; both are whole numbers that double precision holds.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.processes.errors import ExchangeError

TAGS = 1 << 20  # W * TAGS^2 stays below 2^53 for up to 8192 processes
CHECKED = "METANORM_CHECK_EXCHANGE"  # in the environment: look at headers on GPUs, too
FORWARD, BACKWARD = 0, 1


def tag_of(identity: int, stage: int, direction: int, length: int) -> int:
    """The number of a message: of which norm, at which stage and in which direction it is."""
    return (identity * 31 + stage * 1009 + direction * 503 + length * 2017) % TAGS


def summed(values: Tensor, group: str, size: int, identity: int, stage: int) -> Tensor:
    """The sum over the processes of a group, called by its name, that has `size` of them.

    `values` is of float64 and has one dimension. Raises `ExchangeError` where processes have sent
    different messages, as far as this is looked for.
    """
    function = _Traced if torch.compiler.is_compiling() else _Summed
    found: Tensor = function.apply(values, group, size, identity, stage, FORWARD)  # type: ignore[no-untyped-call]
    return found


class _Traced(torch.autograd.Function):
    """The sum, as `torch.compile` takes it."""

    @staticmethod
    def forward(
        values: Tensor, group: str, size: int, identity: int, stage: int, direction: int
    ) -> Tensor:
        tag = tag_of(identity, stage, direction, values.numel())
        header = torch.stack((values.new_full((), tag), values.new_full((), tag * tag)))
        message = torch.cat((header, values.reshape(-1)))
        operations = torch.ops._c10d_functional
        whole: Tensor = operations.wait_tensor(operations.all_reduce(message, "sum", group))
        if not torch.compiler.is_compiling() and _is_checked(whole):
            _demand_one_message(whole, size)
        return whole[2:].reshape(values.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *ctx.sent = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        part = _Traced.apply(gradients[0], *_other_way(ctx.sent))  # type: ignore[no-untyped-call]
        return part, None, None, None, None, None


class _Summed(_Traced):
    """The same with what `torch.func` asks for."""

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        part = _Summed.apply(gradients[0], *_other_way(ctx.sent))  # type: ignore[no-untyped-call]
        return part, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        found: Tensor = _Summed.apply(tangent, *ctx.sent)  # type: ignore[no-untyped-call]
        return found

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, *sent: Any) -> Any:
        return _Summed.apply(values, *sent), in_dims[0]  # type: ignore[no-untyped-call]


def _other_way(sent: Sequence[Any]) -> tuple[Any, ...]:
    """The message that brings back what belongs to one that was sent."""
    *same, direction = sent
    return *same, BACKWARD if direction == FORWARD else FORWARD


def _is_checked(whole: Tensor) -> bool:
    """Whether reading a number costs no wait, or is asked for."""
    return type(whole) is Tensor and (whole.is_cpu or bool(os.environ.get(CHECKED)))


def _demand_one_message(whole: Tensor, size: int) -> None:
    tags, squares = (int(number) for number in whole[:2].tolist())
    if size * squares != tags * tags:
        raise ExchangeError(
            "the processes are not at the same norm: one of them has left a norm out, calls them "
            "in another order, or is in another mode. The group cannot be used any further"
        )
