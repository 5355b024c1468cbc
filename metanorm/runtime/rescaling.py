"""The elementwise part of a normalizer: scale * weight * (x - centre) + shift.

As four operations it would make three tensors of the size of x, and save two of them for the
backward pass. Here it makes one and saves x: the derivatives are written out. The centre is
subtracted first, so that nothing cancels if the mean is large.
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
    they may be NaN or infinite where the result has no gradient: no gradient becomes NaN by that.
    """
    parts = [_tensor(part, x) for part in (centre, scale, weight, shift)]
    if must_decompose(x):
        compiled = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
        if gaps and compiled and not is_transformed():
            traced: Tensor = _CompiledRescale.apply(x, *parts, gaps)  # type: ignore[no-untyped-call]
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


class _CompiledRescale(torch.autograd.Function):
    """The formula, with one new tensor; x is saved."""

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
        if centre is None and factors:
            result = x * factors.pop(0)
        else:
            result = x.clone() if centre is None else x - centre
        for factor in factors:
            result *= factor
        return result if shift is None else result.add_(shift)  # faster than one `addcmul`

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *parts, ctx.gaps = inputs
        ctx.save_for_backward(*parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        parts, (gradient,) = saved(ctx), gradients
        x, centre, scale, weight, _ = parts
        if ctx.gaps:  # zero times NaN is zero
            kept = gradient != 0
            if torch.is_grad_enabled():
                # A gradient of this one by what arrives is the slope, also where nothing arrived.
                kept = kept | _formula(x, centre, scale, weight).detach().isfinite()
            x, centre, scale, weight = (
                None if part is None else torch.where(kept, part, 0) for part in parts[:4]
            )
        weighted_gradient = gradient if weight is None else gradient * weight
        x_gradient = weighted_gradient if scale is None else weighted_gradient * scale
        needed = ctx.needs_input_grad
        part_gradients = (
            x_gradient if needed[0] else None,
            -x_gradient if needed[1] else None,
            weighted_gradient * _formula(x, centre) if needed[2] else None,
            gradient * _formula(x, centre, scale) if needed[3] else None,
            gradient if needed[4] else None,
        )
        pairs = zip(part_gradients, parts)
        return *(None if g is None else g.sum_to_size(part.shape) for g, part in pairs), None


class _Rescale(_CompiledRescale):
    """The same with methods for `torch.func`, which `torch.compile` does not accept."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        *parts, ctx.gaps = inputs
        save(ctx, *parts)

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        x, centre, scale, weight, _ = saved(ctx)
        dx, dcentre, dscale, dweight, dshift = tangents[:5]
        result_tangent = torch.zeros_like(_formula(x, centre))
        if dx is not None:
            result_tangent = result_tangent + dx
        if dcentre is not None:
            result_tangent = result_tangent - dcentre
        result_tangent = _formula(result_tangent, None, scale, weight, dshift)
        for other, tangent in ((weight, dscale), (scale, dweight)):
            if tangent is not None:
                result_tangent = result_tangent + _formula(x, centre, other, tangent, None)
        return result_tangent

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *parts: Any) -> tuple[Tensor, int]:
        mapped = torch.vmap(_formula, in_dims[:-1], randomness=info.randomness)
        return mapped(*parts[:-1]), 0
