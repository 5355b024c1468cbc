"""Nested tensors, whose rows have different lengths, as `torch.nested` makes them.

A norm that derives from `nn.LayerNorm` or `nn.RMSNorm` takes them as that layer does. No other norm
defines a pool over an axis without one length.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.runtime.errors import ShapeError, shape_text

SUPPORT = (
    "only modules that are nn.LayerNorm or nn.RMSNorm take nested tensors. Pad it with "
    "torch.nested.to_padded_tensor, and leave the padding out by a mask where the norm has one"
)


def call_with_nested(forward: Callable[..., Any], x: Tensor) -> Any:
    """The result of the torch layer that a norm derives from. Raises `TypeError` without one."""
    module: Any = forward.__self__  # type: ignore[attr-defined]
    layer: Any
    for layer in (nn.LayerNorm, nn.RMSNorm):
        if isinstance(module, layer):
            if x.layout is torch.jagged:
                _check_axes(forward, x)
            return layer.forward(module, x)
    raise TypeError(f"{type(module).__name__}: x is a nested tensor, and {SUPPORT}")


def demand_dense(x: Tensor, name: str) -> None:
    """Raise `TypeError` for a nested tensor."""
    if x.is_nested:
        raise TypeError(f"{f'{name}: ' if name else ''}got a nested tensor, and {SUPPORT}")


def _check_axes(forward: Callable[..., Any], x: Tensor) -> None:
    """Raise `ShapeError` for wrong axes, by a call with an empty tensor of the same axes."""
    stand_in = _empty_dense(x)
    try:
        forward(stand_in)
    except ShapeError as error:
        # A length that differs from row to row has a name of torch's own, such as `j1`.
        text = str(error).replace(shape_text(stand_in), shape_text(x), 1)
        raise ShapeError(text) from None


def _empty_dense(x: Any) -> Tensor:
    """A dense tensor with the same axes, of which the ragged one has length zero."""
    ragged: int = x._ragged_idx
    lengths = [0 if axis == ragged else length for axis, length in enumerate(x.shape)]
    return torch.empty(lengths, dtype=x.dtype, device=x.device)
