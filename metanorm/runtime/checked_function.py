"""Calls that run on torch: their arguments are checked as kernels check theirs."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.arguments import demand
from metanorm.runtime.devices import demand_one_device
from metanorm.runtime.tensors import demand_memory, is_traced
from metanorm.runtime.tracing import must_guard, traced_with_guards


class CheckedFunction:
    """A function of a generated module, with checks of its tensors by their sorts."""

    def __init__(self, function: Callable[..., Any], sorts: Mapping[str, str]) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        self.names = tuple(self.signature.parameters)
        # An argument that may be a number or a string is checked where it is read.
        self.sorts = {
            name: sorts.get(name, "tensor")
            for name, parameter in self.signature.parameters.items()
            if str(parameter.annotation).startswith("Tensor")
        }
        # Matrices of the constructor: the function moves them to its device.
        self.movable = {
            name for name, p in self.signature.parameters.items() if "str" in str(p.annotation)
        }

    def __call__(self, *args: Any, **named: Any) -> Any:
        """The result of the function.

        Raises `TypeError` for a tensor of another dtype than its sort has, and `RuntimeError` for
        one whose memory was freed, where torch would crash, or that is on another device, which
        torch does not always notice.
        """
        arguments = {**dict(zip(self.names, args)), **named}
        for name, value in arguments.items():
            demand_memory(value)
            if isinstance(value, Tensor) and name in self.sorts:
                demand(self.sorts[name], value, name)
        demand_one_device(self.function.__name__, arguments, self.movable)
        if must_guard():
            return traced_with_guards(self.function.__name__, self.function, *args, **named)
        result = self.function(*args, **named)
        if not torch.compiler.is_compiling() and torch.is_grad_enabled() and not is_traced():
            _demand_memory_in_backward(result, (*args[1:], *named.values()))
        return result


def _demand_memory_in_backward(result: Any, others: Sequence[Any]) -> None:
    """Check the memory of the other inputs again before the backward pass.

    The first input is left out: the backward pass may not read it, and checks it where it does.
    """
    tensors = [weakref.ref(other) for other in others if isinstance(other, Tensor)]

    def check(_: Any) -> None:
        for reference in tensors:
            demand_memory(reference())

    for output in result if isinstance(result, tuple) else (result,):
        if tensors and isinstance(output, Tensor) and output.grad_fn is not None:
            output.grad_fn.register_prehook(check)
