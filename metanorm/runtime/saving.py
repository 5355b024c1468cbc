"""Tensors that autograd saves for the backward pass, checked when they come back.

Hooks on saved tensors (`torch.autograd.graph.saved_tensors_hooks`) may compress or offload them.
What they return is checked before it is used: torch would broadcast a tensor of another shape, and
a kernel would read beyond its end.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.tensors import demand_memory


def save(ctx: Any, *tensors: Tensor | None) -> None:
    """Save tensors for derivatives in either direction."""
    ctx.save_for_backward(*tensors)
    ctx.save_for_forward(*tensors)
    ctx.specs = [None if t is None else (t.shape, t.dtype, t.device) for t in tensors]


def saved(ctx: Any) -> tuple[Any, ...]:
    """The tensors that `save` has saved. Raises `RuntimeError` if a hook gave one back changed.

    Under `torch.compile`, compiled code saves tensors, and they are not checked.
    """
    tensors: tuple[Any, ...] = ctx.saved_tensors
    specs = () if torch.compiler.is_compiling() else getattr(ctx, "specs", ())
    for tensor, spec in zip(tensors, specs):
        if spec is not None:
            demand_unchanged(tensor, *spec)
    return tensors


def demand_unchanged(
    tensor: Tensor, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> None:
    """Raise `RuntimeError` for a saved tensor with another shape, dtype or device, or no memory."""
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device != device:
        raise RuntimeError(
            "a tensor that was saved for the backward pass came back as "
            f"{_spec_text(tensor)} instead of {list(shape)}, {dtype}, {device}: hooks on saved "
            "tensors must give back what they were given, but for rounding"
        )
    demand_memory(tensor)


def _spec_text(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}, {tensor.dtype}, {tensor.device}"
