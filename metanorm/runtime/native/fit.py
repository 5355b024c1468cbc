"""Which tensors a kernel may read behind torch's back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

PLAIN = (Tensor, torch.nn.Parameter)
REAL = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


def plain(x: Any) -> bool:
    """Whether this is a tensor with memory of its own on the CPU, and no subclass."""
    return type(x) in PLAIN and x.is_cpu and x.layout is torch.strided and not x.is_neg()


def served(x: Any) -> bool:
    """Whether a kernel can take it as data, and nothing looks on that would have to see how."""
    return (
        plain(x)
        and x.dtype in REAL
        and forward_ad._current_level < 0
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._functorch.is_legacy_batchedtensor(x)
        and (torch._C._len_torch_dispatch_stack() == 0 or not _traced())
        and torch._C._get_tracing_state() is None
    )


def _traced() -> bool:
    """Whether a mode that records programs looks on; one that only watches may be there."""
    modes = torch._C._TorchDispatchModeKey
    return any(
        torch._C._get_dispatch_mode(key) is not None
        for key in (modes.FAKE, modes.PROXY, modes.FUNCTIONAL)
    )
