"""One message: the sum of a few numbers over the processes of a group, and its derivative.

The operations are those that `torch.compile` knows. The derivative is written out, as
`torch.distributed.all_reduce` has none, and other functions return tensors that no kernel takes.

Messages are in float64. The first two numbers identify a message: a tag t and its square. All W
processes have sent the same tag exactly if W * sum(t^2) equals sum(t)^2; both are integers that
float64 holds. A process that has to refuse the call sends -t, so that all of them raise an error
instead of waiting for it. Its `identity` is negative (`refusing`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.backends import demands_kernels
from metanorm.runtime.processes.errors import ExchangeError

TAGS = 1 << 20  # W * TAGS^2 stays below 2^53 for up to 8192 processes
CHECK_ON_GPUS = "METANORM_CHECK_EXCHANGE"  # environment variable: check tags on GPUs, too
FORWARD, BACKWARD = 0, 1


def tag_of(identity: int, stage: int, direction: int, length: int) -> int:
    """The tag of a message, by norm, stage, direction and length; that of no message is zero."""
    norm = identity if identity >= 0 else refusing(identity)
    return 1 + (norm * 31 + stage * 1009 + direction * 503 + length * 2017) % (TAGS - 1)


def refusing(identity: int) -> int:
    """The identity of a norm in a message of a process that refuses the call, and back."""
    return ~identity


def sum_over_processes(
    values: Tensor, group: str, size: int, identity: int, stage: int, place: str,
    direction: int = FORWARD,
) -> Tensor:  # fmt: skip
    """The sum over the `size` processes of a group, which is given by its name.

    `values` is a tensor of float64. Raises `ExchangeError`, which begins with `place`, such as
    `BatchNorm, over N`, if a message fails or if processes have sent different ones; on GPUs this
    is only checked if the environment asks for it.
    """
    function = _CompiledSum if torch.compiler.is_compiling() else _Sum
    total: Tensor = function.apply(values, group, size, identity, stage, place, direction)  # type: ignore[no-untyped-call]
    return total


class _CompiledSum(torch.autograd.Function):
    """The sum, for `torch.compile`."""

    @staticmethod
    def forward(
        values: Tensor, group: str, size: int, identity: int, stage: int, place: str, direction: int
    ) -> Tensor:
        tag = tag_of(identity, stage, direction, values.numel())
        sent_tag = tag if identity >= 0 else -tag
        header = torch.stack((values.new_full((), sent_tag), values.new_full((), tag * tag)))
        message = torch.cat((header, values.reshape(-1)))
        operations = torch.ops._c10d_functional
        received: Tensor = operations.wait_tensor(operations.all_reduce(message, "sum", group))
        if not torch.compiler.is_compiling() and must_check(received):
            tags, squares = (int(number) for number in received[:2].tolist())
            is_refused = squares == size * tag * tag and tags < size * tag
            demand_one_message(size * squares == tags * tags, is_refused, place, direction)
        return received[2:].reshape(values.shape)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, *ctx.sent = inputs

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        value_gradient = _CompiledSum.apply(gradients[0], *_reversed_message(ctx.sent))  # type: ignore[no-untyped-call]
        return value_gradient, None, None, None, None, None, None


class _Sum(_CompiledSum):
    """The same with methods for `torch.func`, and with errors that say what failed."""

    @staticmethod
    def forward(values: Tensor, group: str, size: int, *message: Any) -> Tensor:
        *_, place, direction = message
        with failures_named(place, size, direction):
            return _CompiledSum.forward(values, group, size, *message)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        value_gradient = _Sum.apply(gradients[0], *_reversed_message(ctx.sent))  # type: ignore[no-untyped-call]
        return value_gradient, None, None, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        total: Tensor = _Sum.apply(tangent, *ctx.sent)  # type: ignore[no-untyped-call]
        return total

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], values: Tensor, *sent: Any) -> Any:
        return _Sum.apply(values, *sent), in_dims[0]  # type: ignore[no-untyped-call]


def _reversed_message(sent: Sequence[Any]) -> tuple[Any, ...]:
    """The message of the opposite direction for one that was sent."""
    *same, direction = sent
    return *same, BACKWARD if direction == FORWARD else FORWARD


def must_check(received: Tensor) -> bool:
    """Whether tags are checked: on CPUs, where a read does not synchronize, or if asked for.

    Where kernels are demanded, a process that has none is looked for, too.
    """
    if type(received) is not Tensor:
        return False
    return received.is_cpu or demands_kernels() or bool(os.environ.get(CHECK_ON_GPUS))


@contextmanager
def failures_named(place: str, size: int, direction: int = FORWARD) -> Iterator[None]:
    """Raise `ExchangeError` for a message that torch could not send, with its place."""
    try:
        yield
    except ExchangeError:
        raise
    except RuntimeError as error:
        raise ExchangeError(
            f"{_place_text(place, direction)}: the exchange among {size} processes failed: {error}"
        ) from error


def _place_text(place: str, direction: int) -> str:
    return f"{place}, in the backward pass" if direction == BACKWARD else place


def demand_one_message(
    is_one: bool, is_refused: bool, place: str, direction: int = FORWARD
) -> None:
    """Raise `ExchangeError` if processes have sent different messages, or one refuses the call."""
    prefix = _place_text(place, direction)
    if is_refused:
        raise ExchangeError(
            f"{prefix}: a process cannot run this call as `metanorm.runtime.use` asks it to, and "
            "says why; no process goes on"
        )
    if not is_one:
        raise ExchangeError(
            f"{prefix}: the processes are not at the same norm: one of them has left a norm out, "
            "calls them in another order, or is in another mode. The group cannot be used any "
            "further"
        )
