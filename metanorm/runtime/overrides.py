"""Overrides of `forward`: calls of a norm that its own function does not compute.

These are calls under `torch.fx` and `torch.jit.trace`, with nested or distributed tensors, and
among processes. Every `forward` checks for them first, before it reads a shape.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.compiler import is_compiling
from torch.fx import Proxy
from torch.nn import Parameter

from metanorm.runtime.arguments import no_tensor
from metanorm.runtime.distributed import call_distributed, is_distributed, must_distribute
from metanorm.runtime.fx import call_module, is_inner
from metanorm.runtime.nested import call_with_nested
from metanorm.runtime.processes.process_groups import ATTRIBUTE, call_among_processes, must_exchange
from metanorm.runtime.tracing import must_guard, traced_with_guards

tracing_state = torch._C._get_tracing_state
P = ParamSpec("P")
R = TypeVar("R")


def has_override(module: nn.Module, x: Tensor) -> bool:
    """Whether a call of a norm with `x` is for `handle_override`.

    Raises `TypeError` for what is no tensor.
    """
    if (type(x) is Tensor or type(x) is Parameter) and not x.is_nested:
        # The path of nearly all calls, without function calls that would cost time.
        if ATTRIBUTE in module.__dict__ and must_exchange(module):
            return True
        return not is_compiling() and tracing_state() is not None and must_guard()
    if isinstance(x, Proxy):
        return is_inner(module, x)
    if not isinstance(x, Tensor):
        name = next(iter(inspect.signature(module.forward).parameters))
        raise no_tensor(type(module).__name__, name, x)
    if getattr(x, "is_nested", False):
        return True
    if ATTRIBUTE in module.__dict__ and not is_distributed(x) and must_exchange(module):
        return True  # a subclass of torch's tensors
    return not is_compiling() and (must_guard() or must_distribute(x))


def handle_override(forward: Callable[P, R], *inputs: P.args, **named: P.kwargs) -> R:
    """The result of such a call; `forward` is the method of the module."""
    if any(isinstance(x, Proxy) for x in (*inputs, *named.values())):
        return call_module(forward, *inputs, **named)
    x = cast(Any, inputs[0])
    module = cast(nn.Module, forward.__self__)  # type: ignore[attr-defined]
    is_one_piece = not x.is_nested and not is_distributed(x)
    if ATTRIBUTE in module.__dict__ and is_one_piece and must_exchange(module):
        return cast(R, call_among_processes(forward, *inputs, **named))
    if x.is_nested:
        return cast(R, call_with_nested(forward, x))
    if must_distribute(x):
        return cast(R, call_distributed(forward, *inputs, **named))
    name = type(forward.__self__).__name__  # type: ignore[attr-defined]
    return traced_with_guards(name, forward, *inputs, **named)
