"""`torch.jit.trace`: what Python decides by a length holds for the example alone, and is guarded.

A trace has no conditions. Where the code of a norm asks whether a length is one, or makes a Python
number of it, the answer for the example becomes a part of the trace. Each such answer gets a guard,
which raises where another input would have got another answer. What merely computes with lengths
stays open.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.jit._trace import TracerWarning
from torch.overrides import TorchFunctionMode

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Tensor])

# Compiled, so that a trace calls the function instead of what it does for the example.
_scripted = cast(Callable[[F], F], torch.jit.script_if_tracing)

# How a tensor, as each length is under `torch.jit.trace`, becomes a whole number of Python.
TO_WHOLE = (Tensor.__int__, Tensor.__index__)

_this_thread = threading.local()


def is_tracing() -> bool:
    """Whether `torch.jit.trace` records what is computed. Then lengths of tensors are tensors."""
    return not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None


def must_guard() -> bool:
    """Whether `torch.jit.trace` records a call, and no guards are set for it yet.

    The exporter to ONNX that is built on it takes no guards.
    """
    return (
        is_tracing()
        and not getattr(_this_thread, "guarding", False)
        and not torch.onnx.is_in_onnx_export()
    )


def traced_with_guards(
    name: str, function: Callable[P, R], *inputs: P.args, **named: P.kwargs
) -> R:
    """A call of a norm's function as `torch.jit.trace` is to record it."""
    tensors = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # what it warns of is guarded
        shape = [int(length) for length in tensors[0].shape]
        reason = (
            f"{name} was traced with an input of shape {shape} and of {tensors[0].dtype}, and does "
            "something else for this one: trace it again, or use torch.export"
        )
        for x in tensors:
            _guard_kind(x, x.dim(), torch.empty(0, dtype=x.dtype), reason)
        _this_thread.guarding = True
        try:
            with _Guards(reason):
                return function(*inputs, **named)
        finally:
            _this_thread.guarding = False


class _Guards(TorchFunctionMode):
    """Sees each operation on the lengths and tensors of a call."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is Tensor.__bool__:
            _guard_whole(args[0] != 0, int(result), self.reason)
        elif func in TO_WHOLE:
            _guard_whole(args[0], result, self.reason)
        elif func is Tensor.__float__:
            _guard_real(args[0], result, self.reason)
        elif _is_fraction(result, args):
            # Torch makes a fraction of whole numbers float32, also in a model of float64.
            result = func(*(a.double() if isinstance(a, Tensor) else a for a in args))
        return result


def _is_fraction(result: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation on single whole numbers has made a real one."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    return (
        isinstance(result, Tensor)
        and result.is_floating_point()
        and bool(tensors)
        and all(a.dim() == 0 and a.dtype is torch.int64 for a in tensors)
    )


@_scripted
def _guard_kind(x: Tensor, dims: int, like: Tensor, reason: str) -> Tensor:
    """Refuse a tensor of another number of dimensions or another dtype than in the example."""
    if x.dim() != dims or x.dtype != like.dtype:
        raise RuntimeError(reason)
    return x


@_scripted
def _guard_whole(found: Tensor, traced: int, reason: str) -> Tensor:
    """Refuse another answer than that for the example."""
    if int(found) != traced:
        raise RuntimeError(reason)
    return found


@_scripted
def _guard_real(found: Tensor, traced: float, reason: str) -> Tensor:
    if float(found) != traced:
        raise RuntimeError(reason)
    return found
