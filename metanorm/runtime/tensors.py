"""What kind of tensor this is, and who looks on: what torch itself does not say in public."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_functorch = torch._C._functorch


def is_plain_tensor(x: Any, device: str = "cpu") -> bool:
    """Whether this is a tensor with memory of its own on such a device, and no subclass."""
    return (
        (type(x) is Tensor or type(x) is Parameter)
        and (x.is_cpu if device == "cpu" else x.device.type == device)
        and x.layout is torch.strided
        and not x.is_neg()
    )


# A view of a freed storage, whose memory begins at zero, has its offset for an address. Allocators
# seldom give out addresses below this one: so a lower one is worth a closer look.
LOWEST_ADDRESS = 1 << 36


def demand_memory(x: Any) -> None:
    """Refuse a tensor whose storage was freed, from which torch, too, would read at address zero.

    Raises `RuntimeError`. Looks at nothing that torch watches or makes up. An address says most,
    and costs little: whatever torch's own functions touch is asked about first.
    """
    if torch.compiler.is_compiling() or not (type(x) is Tensor or type(x) is Parameter):
        return
    if x.layout is not torch.strided or has_address(x) or is_traced() or x._is_zerotensor():
        return
    if x.numel() and not x.untyped_storage().nbytes():
        raise RuntimeError(
            f"the memory of a tensor of shape {list(x.shape)} was freed, as sharded training does "
            "with parameters (`untyped_storage().resize_(0)`): nothing can be read from it"
        )


def has_address(x: Tensor) -> bool:
    """Whether a tensor lies where allocators put memory, or has no address to ask for."""
    try:
        return x.data_ptr() >= LOWEST_ADDRESS
    except RuntimeError:  # what torch.func wraps
        return True


def is_traced() -> bool:
    """Whether something looks on that would have to see how an output comes about."""
    return (
        is_transformed()
        or (torch._C._len_torch_dispatch_stack() > 0 and _has_tracing_mode())
        or torch._C._get_tracing_state() is not None
    )


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, or forward-mode differentiation, looks on."""
    return forward_ad._current_level >= 0 or _functorch.peek_interpreter_stack() is not None


def must_decompose(x: Tensor) -> bool:
    """Whether an equation has to consist of torch's own operations alone.

    That is so where a program is made of them, as by torch.compile, torch.export and
    torch.jit.trace, and where a tensor is of a class that has its own notion of each of them.
    """
    return (
        torch.compiler.is_compiling()
        or not (type(x) is Tensor or type(x) is Parameter)
        or torch._C._get_tracing_state() is not None
        or (torch._C._len_torch_dispatch_stack() > 0 and _has_tracing_mode())
    )


def is_capturing(device: torch.device) -> bool:
    """Whether what is launched on a device goes into a CUDA graph instead."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _has_tracing_mode() -> bool:
    """Whether a mode that records programs looks on; one that only watches may be there."""
    modes = torch._C._TorchDispatchModeKey
    return any(
        torch._C._get_dispatch_mode(key) is not None
        for key in (modes.FAKE, modes.PROXY, modes.FUNCTIONAL)
    )


def is_kernel_input(x: Any, device: str = "cpu") -> bool:
    """Whether a kernel can take this as what is normalized, or as its gradient."""
    return is_plain_tensor(x, device) and x.dtype in FLOAT_DTYPES and not is_batched(x)


def is_batched(x: Tensor) -> bool:
    """Whether this stands for many tensors, as gradients do with `is_grads_batched=True`."""
    return bool(_functorch.is_legacy_batchedtensor(x))
