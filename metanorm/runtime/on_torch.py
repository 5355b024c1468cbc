"""Calls that run on torch: what they bring is looked at as kernels look at it."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.arguments import demand
from metanorm.runtime.devices import demand_one_device
from metanorm.runtime.tensors import demand_memory, watched
from metanorm.runtime.tracing import must_guard, traced_with_guards


class OnTorch:
    """A function of a generated module, with the sorts of the tensors that it takes."""

    def __init__(self, function: Callable[..., Any], sorts: Mapping[str, str]) -> None:
        self.function = function
        self.signature = inspect.signature(function)
        self.names = tuple(self.signature.parameters)
        # What may be a number or a word is asked about where it is read.
        self.sorts = {
            name: sorts.get(name, "tensor")
            for name, parameter in self.signature.parameters.items()
            if str(parameter.annotation).startswith("Tensor")
        }
        # A matrix of the constructor, which may be a word: the function brings it to its device.
        self.movable = {
            name for name, p in self.signature.parameters.items() if "str" in str(p.annotation)
        }

    def __call__(self, *args: Any, **named: Any) -> Any:
        """The result. Raises `TypeError` for a tensor that is not of its sort, and `RuntimeError`
        for one whose memory was freed, at which torch would end the process, or that is on another
        device, which torch may pass over in silence."""
        given = {**dict(zip(self.names, args)), **named}
        for name, value in given.items():
            demand_memory(value)
            if isinstance(value, Tensor) and name in self.sorts:
                demand(self.sorts[name], value, name)
        demand_one_device(self.function.__name__, given, self.movable)
        if must_guard():
            return traced_with_guards(self.function.__name__, self.function, *args, **named)
        result = self.function(*args, **named)
        if not torch.compiler.is_compiling() and torch.is_grad_enabled() and not watched():
            _demand_memory_in_backward(result, (*args[1:], *named.values()))
        return result


def _demand_memory_in_backward(result: Any, others: Sequence[Any]) -> None:
    """Ask for the memory of saved tensors before the backward pass, too.

    Not for that of the first input: the backward pass need not read it, and asks where it does.
    """
    tensors = [weakref.ref(other) for other in others if isinstance(other, Tensor)]

    def ask(_: Any) -> None:
        for reference in tensors:
            demand_memory(reference())

    for output in result if isinstance(result, tuple) else (result,):
        if tensors and isinstance(output, Tensor) and output.grad_fn is not None:
            output.grad_fn.register_prehook(ask)
