"""Functions of arguments that may be NaN where no element counts, and no gradient arrives.

Autograd multiplies the incoming gradient with the derivative of a function, and zero times NaN is
NaN, which would reach the gradients of parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import must_decompose

Function = Callable[..., Tensor]


def guarded(function: Function, *arguments: Tensor | float) -> Tensor:
    """`function` of tensors and numbers; where the incoming gradient is zero, so are all others.

    The function is elementwise, and smooth at one.
    """
    tensors = [a for a in arguments if isinstance(a, Tensor)]

    def of_tensors(*values: Tensor) -> Tensor:
        remaining = iter(values)
        return function(*(next(remaining) if isinstance(a, Tensor) else a for a in arguments))

    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    if not compiled and any(map(must_decompose, tensors)):
        return _guarded_by_finiteness(of_tensors, tensors)
    guard = _CompiledGuarded if compiled else _Guarded
    result: Tensor = guard.apply(of_tensors, *tensors)  # type: ignore[no-untyped-call]
    return result


def _guarded_by_finiteness(function: Function, arguments: list[Tensor]) -> Tensor:
    """The function for a program that torch differentiates operation by operation.

    Such a program cannot ask where a gradient arrives. It has none where the result is not finite.
    """
    result = function(*(a.detach() for a in arguments))
    finite = result.isfinite()
    finite_arguments = [torch.where(finite, a.to(result.dtype), 1) for a in arguments]
    return torch.where(finite, function(*finite_arguments), result)


def _has_slope(function: Function, arguments: Sequence[Tensor], gradient: Tensor) -> Tensor:
    """Where the derivative by each argument is finite, as a mask in the shape of the result."""
    full_arguments = [a.detach().expand_as(gradient) for a in arguments]
    derivative: Any = torch.func.vjp(function, *full_arguments)[1]
    slopes: tuple[Tensor, ...] = derivative(torch.ones_like(gradient.detach()))
    return torch.stack([slope.isfinite() for slope in slopes]).all(dim=0)


class _CompiledGuarded(torch.autograd.Function):
    """Where the incoming gradient is zero, the derivative is that at one.

    For gradients of gradients that holds only where there is no finite derivative.
    """

    @staticmethod
    def forward(function: Function, *arguments: Tensor) -> Tensor:
        return function(*arguments)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function, *arguments = inputs
        ctx.save_for_backward(*arguments)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        arguments = saved(ctx)
        # A parameter in half precision broadcasts: its gradients are added up before they are
        # rounded.
        arguments_in_dtype = [a.to(gradient.dtype) for a in arguments]
        elsewhere: list[Tensor | int] = [1] * len(arguments)
        if torch.is_grad_enabled():
            # A gradient of this one by what arrives is the slope, also where nothing arrived. By
            # the argument it is zero there, whatever the second derivative is.
            has_slope = _has_slope(ctx.function, arguments_in_dtype, gradient)
            elsewhere = [torch.where(has_slope, a.detach(), 1) for a in arguments_in_dtype]
        has_gradient = gradient != 0
        safe_arguments = [
            torch.where(has_gradient, a, other) for a, other in zip(arguments_in_dtype, elsewhere)
        ]
        derivative: Any = torch.func.vjp(ctx.function, *safe_arguments)[1]
        pairs = zip(derivative(gradient), arguments)
        return None, *(
            argument_gradient.sum_to_size(a.shape).to(a.dtype) for argument_gradient, a in pairs
        )


class _Guarded(_CompiledGuarded):
    """The same with methods for `torch.func`, which `torch.compile` does not accept."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.function, *arguments = inputs
        save(ctx, *arguments)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        """The derivative backward is linear in what arrives, and its own derivative is this one.
        `torch.func.jvp` cannot be nested in forward mode."""
        arguments = saved(ctx)
        full_tangents = [
            torch.zeros_like(a) if t is None else t for a, t in zip(arguments, tangents[1:])
        ]
        result, derivative = torch.func.vjp(ctx.function, *arguments)[:2]
        transposed: Any = torch.func.vjp(derivative, torch.zeros_like(result))[1]
        (result_tangent,) = transposed(tuple(full_tangents))
        return result_tangent  # type: ignore[no-any-return]
