"""The kernels of a norm as one differentiable function of autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.kernels.call_plan import CallPlan, Gradients, Operands
from metanorm.runtime.kernels.errors import CannotBuild, Unsupported, warn_once
from metanorm.runtime.tensors import demand_memory, is_kernel_input, is_plain_tensor, is_traced


def run_plan(plan: CallPlan, operands: Sequence[Tensor], momenta: Sequence[float]) -> Any:
    """The result of a call with this plan. Raises `Unsupported`."""
    for number in plan.mutated:
        if operands[number].is_inference() and not torch.is_inference_mode_enabled():
            raise Unsupported("a buffer that was made in inference mode")
    recorded = plan.differentiable and torch.is_grad_enabled()
    if recorded and cannot_be_saved(plan, operands):
        raise Unsupported("a tensor that was made in inference mode, and cannot be saved")
    try:
        if recorded:
            outputs = _apply(plan, momenta, *operands)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        else:
            outputs, _ = plan.forward(operands, momenta, save=False)
    finally:  # hooks on saved tensors may raise when the kernel has run
        if plan.mutated:  # autograd has to refuse graphs that saved the old values
            torch.autograd.graph.increment_version([operands[i] for i in plan.mutated])
    return outputs[0] if plan.output_class is None else plan.output_class(*outputs)


def cannot_be_saved(plan: CallPlan, operands: Sequence[Tensor]) -> bool:
    """Whether autograd would refuse to save what a gradient needs, once the buffers have moved."""
    return bool(plan.mutated) and any(
        operand.is_inference() and number not in plan.unsaved and number not in plan.cloned
        for number, operand in enumerate(operands)
    )


class Normalized(torch.autograd.Function):
    """The forward and the backward kernel of a plan."""

    @staticmethod
    def forward(ctx: Any, plan: CallPlan, momenta: Sequence[float], *operands: Tensor) -> Any:
        """The outputs of the norm."""
        to_save: Gradients = list(operands)
        for number in plan.cloned:  # this call, or the next one, changes it in place
            demand_memory(operands[number])
            to_save[number] = operands[number].clone()
        for number in plan.unsaved:
            to_save[number] = None
        outputs, saved = plan.forward(operands, momenta, save=True)
        ctx.plan = plan
        ctx.save_for_backward(*to_save, saved)
        return outputs if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of all operands."""
        needed = ctx.needs_input_grad[2:]
        return (None, None, *gradients_of(ctx.plan, ctx.saved_tensors, needed, gradients))


# `Function.apply` would ask again for transforms of `torch.func`, as `is_traced` has done.
_apply: Callable[..., Any] = super(torch.autograd.Function, Normalized).apply


def gradients_of(
    plan: CallPlan, saved_tensors: Sequence[Tensor | None], needed: Sequence[bool],
    gradients: Sequence[Tensor],
) -> Gradients:  # fmt: skip
    """The gradients of the operands of a call, from its saved tensors.

    Raises `RuntimeError` if hooks gave a saved tensor back changed.
    """
    *operands, saved = saved_tensors
    plan.demand_unchanged(operands, saved, gradients[0].device)
    for gradient in gradients:
        demand_memory(gradient)
    if runs_on_kernel(plan, saved_tensors, gradients):
        try:
            return plan.backward(operands, gradients, needed, saved)
        except Unsupported:
            pass
        except CannotBuild as problem:
            plan.backward_failed = True  # a failed build would take its time at every step
            warn_once(problem)
    return differentiable_gradients(plan, operands, needed, gradients)


def runs_on_kernel(plan: CallPlan, saved_tensors: Operands, gradients: Sequence[Tensor]) -> bool:
    """Whether the backward kernel of a plan may take these tensors.

    Hooks may give saved tensors back as others that only torch reads: of a subclass that has no
    memory of its own, or views that stand for the negative of their memory.
    """
    if torch.is_grad_enabled() or plan.backward_failed or is_traced():
        return False
    if not all(t is None or is_plain_tensor(t, plan.device) for t in saved_tensors):
        return False
    return all(is_kernel_input(gradient, plan.device) for gradient in gradients)


def differentiable_gradients(
    plan: CallPlan, operands: Operands, needed: Sequence[bool], gradients: Sequence[Tensor]
) -> Gradients:
    """The gradients by torch, as functions of the operands that can be differentiated again.

    One operand may be computed from another. The gradients are those of the arguments of this call,
    so each operand becomes a graph node of its own.
    """
    create_graph = torch.is_grad_enabled()
    inputs: Gradients = []
    with torch.enable_grad():
        for operand, spec, need in zip(operands, plan.operand_specs, needed):
            # No gradient depends on an operand that was not saved: zeros may stand for it.
            if operand is None:
                operand = torch.zeros(spec.shape, dtype=spec.dtype, device=gradients[0].device)
            if create_graph and need:
                inputs.append(operand.view_as(operand.requires_grad_()))
            else:
                inputs.append(operand.detach().requires_grad_(need))
        outputs = plan.rerun_on_torch(inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [t for t, need in zip(inputs, needed) if need and t is not None]
    pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
    needed_gradients = iter(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs],
            create_graph=create_graph, allow_unused=True,
        )
    )  # fmt: skip
    return [next(needed_gradients) if need else None for need in needed]
