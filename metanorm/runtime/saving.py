"""What autograd saves for the way back, and that it comes back as it was.

Hooks on saved tensors (`torch.autograd.graph.saved_tensors_hooks`) may compress or offload what is
saved. What they give back is looked at before anything is computed from it: torch's own functions
would broadcast a tensor of another shape, and kernels read beyond its end.
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
    ctx.likes = [None if t is None else (t.shape, t.dtype, t.device) for t in tensors]


def saved(ctx: Any) -> tuple[Any, ...]:
    """The tensors that `save` has saved. Raises `RuntimeError` where one is not what it was.

    What `torch.compile` records saves them by itself, and looks at nothing.
    """
    tensors: tuple[Any, ...] = ctx.saved_tensors
    likes = () if torch.compiler.is_compiling() else getattr(ctx, "likes", ())
    for tensor, like in zip(tensors, likes):
        if like is not None:
            demand_unchanged(tensor, *like)
    return tensors


def demand_unchanged(
    tensor: Tensor, shape: torch.Size, dtype: torch.dtype, device: torch.device
) -> None:
    """Refuse a saved tensor that came back with another shape or dtype, from another device, or
    without its memory. Raises `RuntimeError`."""
    if tensor.shape != shape or tensor.dtype != dtype or tensor.device != device:
        raise RuntimeError(
            f"a tensor that was saved for the backward pass came back as {_shown(tensor)} instead "
            f"of {list(shape)}, {dtype}, {device}: hooks on saved tensors must give back what they "
            "were given, but for rounding"
        )
    demand_memory(tensor)


def _shown(tensor: Tensor) -> str:
    return f"{list(tensor.shape)}, {tensor.dtype}, {tensor.device}"
