"""Guards for `torch.jit.trace`: decisions by lengths hold for the example input alone.

A trace has no conditions. If the code of a norm compares a length, or converts it to a Python
number, the result for the example becomes part of the trace. Each such result gets a guard, which
raises for an input with another result. Lengths that are only computed with stay symbolic.
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

# Scripted, so that a trace calls the function instead of recording what it does for the example.
_scripted = cast(Callable[[F], F], torch.jit.script_if_tracing)

# Under `torch.jit.trace` a length is a tensor; these convert it to a Python integer.
TO_INTEGER = (Tensor.__int__, Tensor.__index__)

_this_thread = threading.local()


def is_tracing() -> bool:
    """Whether `torch.jit.trace` records operations. Lengths of tensors are tensors then."""
    return not torch.compiler.is_compiling() and torch._C._get_tracing_state() is not None


def must_guard() -> bool:
    """Whether `torch.jit.trace` records a call that has no guards yet.

    The ONNX exporter, which is built on it, cannot export guards.
    """
    return (
        is_tracing()
        and not getattr(_this_thread, "guarding", False)
        and not torch.onnx.is_in_onnx_export()
    )


def traced_with_guards(
    name: str, function: Callable[P, R], *inputs: P.args, **named: P.kwargs
) -> R:
    """Call a norm's function, and record guards with it."""
    tensors = [x for x in (*inputs, *named.values()) if isinstance(x, Tensor)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TracerWarning)  # guards cover what it warns of
        shape = [int(length) for length in tensors[0].shape]
        reason = (
            f"{name} was traced with an input of shape {shape} and of {tensors[0].dtype}, and does "
            "something else for this one: trace it again, or use torch.export"
        )
        for x in tensors:
            _guard_rank_and_dtype(x, x.dim(), torch.empty(0, dtype=x.dtype), reason)
        _this_thread.guarding = True
        try:
            with _Guards(reason):
                return function(*inputs, **named)
        finally:
            _this_thread.guarding = False


class _Guards(TorchFunctionMode):
    """Adds a guard behind each operation that makes a Python value of a tensor."""

    def __init__(self, reason: str) -> None:
        super().__init__()
        self.reason = reason

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is Tensor.__bool__:
            _guard_integer(args[0] != 0, int(result), self.reason)
        elif func in TO_INTEGER:
            _guard_integer(args[0], result, self.reason)
        elif func is Tensor.__float__:
            _guard_float(args[0], result, self.reason)
        elif _is_fraction(result, args):
            # Torch divides integer tensors in float32, also in a model of float64.
            result = func(*(a.double() if isinstance(a, Tensor) else a for a in args))
        return result


def _is_fraction(result: Any, args: tuple[Any, ...]) -> bool:
    """Whether an operation on integer scalars has a floating-point result."""
    tensors = [a for a in args if isinstance(a, Tensor)]
    return (
        isinstance(result, Tensor)
        and result.is_floating_point()
        and bool(tensors)
        and all(a.dim() == 0 and a.dtype is torch.int64 for a in tensors)
    )


@_scripted
def _guard_rank_and_dtype(x: Tensor, rank: int, like: Tensor, reason: str) -> Tensor:
    """Raise for a tensor of another rank or dtype than the example has."""
    if x.dim() != rank or x.dtype != like.dtype:
        raise RuntimeError(reason)
    return x


@_scripted
def _guard_integer(value: Tensor, traced: int, reason: str) -> Tensor:
    """Raise for another number than the example has."""
    if int(value) != traced:
        raise RuntimeError(reason)
    return value


@_scripted
def _guard_float(value: Tensor, traced: float, reason: str) -> Tensor:
    if float(value) != traced:
        raise RuntimeError(reason)
    return value
