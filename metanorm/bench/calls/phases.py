"""The phases of a call: with a graph or without, forward alone or both directions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

Call = Callable[[], Any]  # the forward pass, with its arguments bound


@dataclass(frozen=True)
class Operands:
    """The leaves of a call, which get gradients, and the gradient of its output."""

    leaves: Sequence[Tensor]
    grad_output: Tensor


@dataclass(frozen=True)
class Phase:
    """A way to use a call. `timed` makes the call to time from a forward call."""

    name: str
    about: str
    graph: bool
    timed: Callable[[Call, Operands], Call]


def _forward(call: Call, _: Operands) -> Call:
    return call


def _with_grad(call: Call, operands: Operands) -> Call:
    leaves, grad_output = operands.leaves, operands.grad_output
    gradients = partial(torch.autograd.grad, allow_unused=True)
    return lambda: gradients(first_output(call()), leaves, grad_output)


def _with_backward(call: Call, operands: Operands) -> Call:
    grad_output = operands.grad_output

    def both() -> None:
        first_output(call()).backward(grad_output)  # type: ignore[no-untyped-call]

    return both


def first_output(result: Any) -> Tensor:
    """The first output."""
    output: Tensor = result if isinstance(result, Tensor) else result[0]
    return output


FORWARD, GRAPH, BOTH, BACKWARD = "no grad", "graph", "grad()", "backward()"
PHASES = (
    Phase(FORWARD, "forward, under `torch.no_grad()`", False, _forward),
    Phase(GRAPH, "forward, and what autograd keeps for later", True, _forward),
    Phase(BOTH, "forward, then `torch.autograd.grad`", True, _with_grad),
    Phase(BACKWARD, "forward, then `.backward()` of the output", True, _with_backward),
)
