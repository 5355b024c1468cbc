"""Where the numbers of a tensor lie: other layouts in memory, and the memory of other devices."""

from __future__ import annotations

import torch
from torch import Tensor


def with_layout(x: Tensor, memory: str) -> Tensor:
    """The same numbers in another memory layout; as it is where the layout does not exist."""
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
    """The same numbers in the memory of a device, and there as they lie here.

    `Tensor.to` would close the gaps of what is strided and write out what is expanded.
    """
    if x.device.type == device:
        return x
    length = x.untyped_storage().nbytes() // x.element_size()
    memory = torch.as_strided(x, (length,), (1,), 0).to(device)
    return torch.as_strided(memory, x.shape, x.stride(), x.storage_offset())
