"""The kernels of a norm behind autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.refusals import CannotBuild, Unfit, warn_once
from metanorm.runtime.kernels.route import Gradients, Operands, Route
from metanorm.runtime.tensors import data, demand_memory, watched


def normalized(route: Route, operands: Sequence[Tensor], momenta: Sequence[float]) -> Any:
    """The result of a call that goes this way. Raises `Unfit`."""
    for number in route.changed:
        if operands[number].is_inference() and not torch.is_inference_mode_enabled():
            raise Unfit("a buffer that was made in inference mode")
    if route.differentiable and torch.is_grad_enabled():
        outputs = _apply(route, momenta, *operands)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    else:
        outputs, _ = route.forward(operands, momenta, keep=False)
    if route.changed:  # so that autograd knows that they are not what they were
        torch.autograd.graph.increment_version([operands[i] for i in route.changed])
    return outputs[0] if route.results is None else route.results(*outputs)


class Normalized(torch.autograd.Function):
    """Forward and backward kernel as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, route: Route, momenta: Sequence[float], *operands: Tensor) -> Any:
        """The outputs of the norm."""
        saved: Gradients = list(operands)
        for number in route.copied:  # as it is now: this call, or the next one, changes it
            demand_memory(operands[number])
            saved[number] = operands[number].clone()
        for number in route.unread:
            saved[number] = None
        outputs, kept = route.forward(operands, momenta, keep=True)
        ctx.route = route
        ctx.save_for_backward(*saved, kept)
        return outputs if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of all operands."""
        needed = ctx.needs_input_grad[2:]
        return (None, None, *gradients_of(ctx.route, ctx.saved_tensors, needed, gradients))


def gradients_of(
    route: Route, saved: Sequence[Tensor | None], needed: Sequence[bool],
    gradients: Sequence[Tensor],
) -> Gradients:  # fmt: skip
    """The gradients of the operands of a call, from what it has saved.

    Raises `RuntimeError` where a saved tensor is not what it was.
    """
    *operands, kept = saved
    route.demand_saved(operands, kept, gradients[0].device)
    for gradient in gradients:
        demand_memory(gradient)
    if serves(route, gradients):
        try:
            return route.back(operands, gradients, needed, kept)
        except Unfit:
            pass
        except CannotBuild as problem:
            route.failed = True  # it would take its time at every step
            warn_once(problem)
    return differentiable_gradients(route, operands, needed, gradients)


def serves(route: Route, gradients: Sequence[Tensor]) -> bool:
    """Whether the backward kernel of a route may serve a call with these gradients."""
    watching = torch.is_grad_enabled() or route.failed or watched()
    return not watching and all(data(gradient, route.device) for gradient in gradients)


# `Function.apply` would look for transforms of `torch.func` once more: see `watched`.
_apply: Callable[..., Any] = super(torch.autograd.Function, Normalized).apply


def differentiable_gradients(
    route: Route, operands: Operands, needed: Sequence[bool], gradients: Sequence[Tensor]
) -> Gradients:
    """The gradients as functions of the operands, which can be differentiated again.

    They are with respect to what this call was given, be it computed from another operand or not,
    so each operand gets a name of its own.
    """
    again = torch.is_grad_enabled()
    own: Gradients = []
    with torch.enable_grad():
        for operand, (shape, dtype, _), need in zip(operands, route.likes, needed):
            # No gradient depends on what was not saved: zeros do.
            there = operand
            if there is None:
                there = torch.zeros(shape, dtype=dtype, device=gradients[0].device)
            if again and need:
                own.append(there.view_as(there.requires_grad_()))
            else:
                own.append(there.detach().requires_grad_(need))
        outputs = route.again(own)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [t for t, need in zip(own, needed) if need and t is not None]
    pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs],
            create_graph=again, allow_unused=True,
        )
    )  # fmt: skip
    return [next(found) if need else None for need in needed]
