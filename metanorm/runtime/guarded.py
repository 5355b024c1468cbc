"""Maps whose argument may be NaN where nothing counts, and so no gradient arrives.

Torch multiplies what arrives with the slope of a function, and zero times NaN is NaN. That would
reach the gradients of what the argument is computed from, parameters among them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import must_decompose

Function = Callable[..., Tensor]


def guarded(function: Function, *arguments: Tensor | float) -> Tensor:
    """`function` of tensors and numbers, with no gradient from where none arrives.

    The function is elementwise, and smooth at one.
    """
    tensors = [a for a in arguments if isinstance(a, Tensor)]

    def of_tensors(*given: Tensor) -> Tensor:
        left = iter(given)
        return function(*(next(left) if isinstance(a, Tensor) else a for a in arguments))

    compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    if not compiled and any(map(must_decompose, tensors)):
        return _of_operations(of_tensors, tensors)
    rule = _Derived if compiled else _Guarded
    result: Tensor = rule.apply(of_tensors, *tensors)  # type: ignore[no-untyped-call]
    return result


def _of_operations(function: Function, arguments: list[Tensor]) -> Tensor:
    """The function for a program that torch differentiates operation by operation.

    Such a program cannot ask where a gradient arrives. It has none where the result is not finite.
    """
    result = function(*(a.detach() for a in arguments))
    finite = result.isfinite()
    calm = [torch.where(finite, a.to(result.dtype), 1) for a in arguments]
    return torch.where(finite, function(*calm), result)


class _Derived(torch.autograd.Function):
    """Where no gradient arrives, the slope is that at one."""

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
        arrives, arguments = gradient != 0, saved(ctx)
        # Parameters in half precision have a gradient for each element, of which none is rounded
        # before they are added up.
        calm = [torch.where(arrives, a.to(gradient.dtype), 1) for a in arguments]
        derivative: Any = torch.func.vjp(ctx.function, *calm)[1]
        found = zip(derivative(gradient), arguments)
        return None, *(change.sum_to_size(a.shape).to(a.dtype) for change, a in found)


class _Guarded(_Derived):
    """The same with what `torch.func` asks for, which `torch.compile` does not take."""

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
        given = [torch.zeros_like(a) if t is None else t for a, t in zip(arguments, tangents[1:])]
        result, derivative = torch.func.vjp(ctx.function, *arguments)[:2]
        transposed: Any = torch.func.vjp(derivative, torch.zeros_like(result))[1]
        (change,) = transposed(tuple(given))
        return change  # type: ignore[no-any-return]
