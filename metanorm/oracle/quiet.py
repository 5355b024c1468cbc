"""Functions whose gradient is zero where none arrives, even where their derivative is not finite.

What no statistic counts may be NaN, and a group of nothing has statistics of zero, which something
may be divided by. Neither has a say in any gradient, but autograd multiplies zero by NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metanorm.ir.aggregation import ByIndex
from metanorm.ir.nodes import Pool
from metanorm.ir.operands import every_let
from metanorm.ir.program import Program

Function = Callable[..., Tensor]


def leaves_out(program: Program) -> bool:
    """Whether there are elements that no statistic counts, or groups that may be empty."""
    pools = [let.op for let in every_let(program.body) if isinstance(let.op, Pool)]
    return any(
        op.where is not None
        or op.weight is not None
        or any(isinstance(grouping, ByIndex) for _, grouping in op.over)
        for op in pools
    )


def quiet(function: Function) -> Function:
    """An elementwise function of tensors that broadcast against each other."""

    def applied(*arguments: Tensor) -> Tensor:
        value: Tensor = _Quiet.apply(function, *torch.broadcast_tensors(*arguments))  # type: ignore[no-untyped-call]
        return value

    return applied


class _Quiet(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, function: Function, *arguments: Tensor) -> Tensor:
        ctx.function = function
        ctx.save_for_backward(*arguments)
        return function(*arguments)

    @staticmethod
    def backward(ctx: Any, *arriving: Any) -> tuple[Tensor | None, ...]:
        (d,), arguments = arriving, list(ctx.saved_tensors)
        with torch.enable_grad():
            leaves = [a.detach().requires_grad_() for a in arguments]
            result = ctx.function(*leaves)
        if not result.requires_grad:
            return None, *(None for _ in arguments)
        gradients = torch.autograd.grad(result, leaves, d, allow_unused=True)
        return None, *(None if g is None else torch.where(d == 0, 0.0, g) for g in gradients)
