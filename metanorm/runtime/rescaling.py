"""The one map over a wide tensor that is left of a normalizer.

It is scale * weight * (x - centre) + shift.
Written as four operations it would make three tensors of the size of x and keep two of them
for the backward pass. Here it makes one and keeps x itself: the derivatives are written out.
The centre is subtracted first, so that a large mean does not cancel.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import is_transformed, must_decompose


def rescale(
    x: Tensor,
    centre: Tensor | float | None = None,
    scale: Tensor | float | None = None,
    weight: Tensor | float | None = None,
    shift: Tensor | float | None = None,
    gaps: bool = False,
) -> Tensor:
    """scale * weight * (x - centre) + shift; what is `None` is left out.

    All but `x` broadcast against `x`, whose shape and memory format the result has. With `gaps`,
    any of them may be NaN or infinite where the result has no gradient: that reaches no gradient.
    """
    parts = [_tensor(part, x) for part in (centre, scale, weight, shift)]
    if must_decompose(x):
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        if gaps and compiled and not is_transformed():
            traced: Tensor = _Derived.apply(x, *parts, gaps)  # type: ignore[no-untyped-call]
            return traced
        return _with_gaps(x, *parts) if gaps else _formula(x, *parts)
    result: Tensor = _Rescale.apply(x, *parts, gaps)  # type: ignore[no-untyped-call]
    return result


def _tensor(part: Tensor | float | None, like: Tensor) -> Tensor | None:
    return part if part is None or isinstance(part, Tensor) else like.new_tensor(part)


def _with_gaps(
    x: Tensor,
    centre: Tensor | None,
    scale: Tensor | None,
    weight: Tensor | None,
    shift: Tensor | None,
) -> Tensor:
    """The formula for a program that torch differentiates operation by operation.

    Such a program cannot ask where a gradient arrives. It has none where the result is not finite.
    """
    result = _formula(x, centre, scale, weight, shift).detach()
    finite = result.isfinite()
    distance = torch.where(finite, _formula(x, centre), 0)
    return torch.where(finite, _formula(distance, None, scale, weight, shift), result)


def _formula(
    x: Tensor,
    centre: Tensor | None,
    scale: Tensor | None = None,
    weight: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    result = x if centre is None else x - centre
    for factor in (scale, weight):
        result = result if factor is None else result * factor
    return result if shift is None else result + shift


class _Derived(torch.autograd.Function):
    """The formula with one tensor made and x kept."""

    @staticmethod
    def forward(
        x: Tensor,
        centre: Tensor | None,
        scale: Tensor | None,
        weight: Tensor | None,
        shift: Tensor | None,
        gaps: bool,
    ) -> Tensor:
        factors = [factor for factor in (scale, weight) if factor is not None]
        result = x.clone() if centre is None else x - centre
        if len(factors) == 2:
            result *= factors.pop(0)
        if not factors:
            return result if shift is None else result.add_(shift)
        if shift is None:
            return result.mul_(factors[0])
        return result.mul_(factors[0]).add_(shift)  # faster than `addcmul`, which is one pass

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *parts, ctx.gaps = inputs
        ctx.save_for_backward(*parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        parts, (gradient,) = saved(ctx), gradients
        x, centre, scale, weight, _ = parts
        if ctx.gaps:  # zero times NaN is zero
            arrives = gradient != 0
            x, centre, scale, weight = (
                None if part is None else torch.where(arrives, part, 0) for part in parts[:4]
            )
        scaled = gradient if weight is None else gradient * weight
        by_x = scaled if scale is None else scaled * scale
        wanted = ctx.needs_input_grad
        found = (
            by_x if wanted[0] else None,
            -by_x if wanted[1] else None,
            scaled * _formula(x, centre) if wanted[2] else None,
            gradient * _formula(x, centre, scale) if wanted[3] else None,
            gradient if wanted[4] else None,
        )
        pairs = zip(found, parts)
        return *(None if g is None else g.sum_to_size(part.shape) for g, part in pairs), None


class _Rescale(_Derived):
    """The same with what `torch.func` asks for, which `torch.compile` does not take."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *parts, ctx.gaps = inputs
        save(ctx, *parts)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, centre, scale, weight, _ = saved(ctx)
        dx, dcentre, dscale, dweight, dshift = tangents[:5]
        change = torch.zeros_like(_formula(x, centre))
        if dx is not None:
            change = change + dx
        if dcentre is not None:
            change = change - dcentre
        change = _formula(change, None, scale, weight, dshift)
        for other, tangent in ((weight, dscale), (scale, dweight)):
            if tangent is not None:
                change = change + _formula(x, centre, other, tangent, None)
        return change

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *parts: Any) -> tuple[Tensor, int]:
        mapped = torch.vmap(_formula, in_dims[:-1], randomness=info.randomness)
        return mapped(*parts[:-1]), 0
