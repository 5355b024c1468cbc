"""Tensors with the same numbers in other memory layouts, and on other devices."""

from __future__ import annotations

import torch
from torch import Tensor


def with_layout(x: Tensor, memory: str) -> Tensor:
    """The same numbers in another memory layout; unchanged if the layout needs other dimensions."""
    match memory:
        case "channels last" if x.dim() == 4:
            return x.contiguous(memory_format=torch.channels_last)
        case "channels last" if x.dim() == 5:
            return x.contiguous(memory_format=torch.channels_last_3d)
        case "transposed" if x.dim() > 1:
            return x.transpose(0, -1).contiguous().transpose(0, -1)
        case "strided" if x.dim() > 0:
            wide = torch.zeros((*x.shape[:-1], 2 * x.shape[-1]), dtype=x.dtype)
            wide[..., ::2] = x
            return wide[..., ::2]
        case "expanded" if x.dim() > 1:
            return x[:1].expand(x.shape)
        case _:
            return x


def to_device(x: Tensor, device: str) -> Tensor:
    """The same numbers on a device, with the same strides.

    `Tensor.to` would make strided and expanded tensors contiguous.
    """
    if x.device.type == device:
        return x
    length = x.untyped_storage().nbytes() // x.element_size()
    memory = torch.as_strided(x, (length,), (1,), 0).to(device)
    return torch.as_strided(memory, x.shape, x.stride(), x.storage_offset())
