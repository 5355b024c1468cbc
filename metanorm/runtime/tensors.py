"""Properties of tensors and of the current transforms that torch has no public functions for."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)

_functorch = torch._C._functorch


def is_plain_tensor(x: Any, device: str = "cpu") -> bool:
    """Whether this is a strided tensor of no subclass, with memory on a device of this type."""
    return (
        (type(x) is Tensor or type(x) is Parameter)
        and (x.is_cpu if device == "cpu" else x.device.type == device)
        and x.layout is torch.strided
        and not x.is_neg()
    )


# The address of a view of a freed storage is its offset, as the storage then begins at zero.
# Allocators rarely return addresses below this one, so lower ones are checked.
LOWEST_ADDRESS = 1 << 36


def demand_memory(x: Any) -> None:
    """Raise `RuntimeError` for a tensor whose storage was freed: torch would read at address zero.

    Tensors that are traced or fake are not checked. The address is checked first, which is cheap.
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
    """Whether the address of a tensor is one that allocators return, or it has none."""
    try:
        return x.data_ptr() >= LOWEST_ADDRESS
    except RuntimeError:  # a tensor that torch.func wraps
        return True


def is_traced() -> bool:
    """Whether a transform or a tracer has to see the operations that compute an output."""
    return (
        is_transformed()
        or (torch._C._len_torch_dispatch_stack() > 0 and _has_tracing_mode())
        or torch._C._get_tracing_state() is not None
    )


def is_transformed() -> bool:
    """Whether a transform of `torch.func`, or forward-mode differentiation, is active."""
    return forward_ad._current_level >= 0 or _functorch.peek_interpreter_stack() is not None


def must_decompose(x: Tensor) -> bool:
    """Whether an equation has to be computed by torch's own operations alone.

    That is so if a program is recorded, as by torch.compile, torch.export and torch.jit.trace, and
    for a tensor of a subclass, which defines each operation for itself.
    """
    return (
        torch.compiler.is_compiling()
        or not (type(x) is Tensor or type(x) is Parameter)
        or torch._C._get_tracing_state() is not None
        or (torch._C._len_torch_dispatch_stack() > 0 and _has_tracing_mode())
    )


def is_capturing(device: torch.device) -> bool:
    """Whether launches on a device are captured into a CUDA graph."""
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _has_tracing_mode() -> bool:
    """Whether a dispatch mode records a program; other modes may be active."""
    modes = torch._C._TorchDispatchModeKey
    return any(
        torch._C._get_dispatch_mode(key) is not None
        for key in (modes.FAKE, modes.PROXY, modes.FUNCTIONAL)
    )


def is_kernel_input(x: Any, device: str = "cpu") -> bool:
    """Whether a kernel can take this tensor as the first input, or as a gradient."""
    return is_plain_tensor(x, device) and x.dtype in FLOAT_DTYPES and not is_batched(x)


def is_batched(x: Tensor) -> bool:
    """Whether this is a batch of tensors, as gradients are with `is_grads_batched=True`."""
    return bool(_functorch.is_legacy_batchedtensor(x))
