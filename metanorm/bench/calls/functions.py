"""Finds the function that `forward` of a generated module calls, with its arguments."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from unittest.mock import patch

from torch import nn


class NoFunctionCalled(Exception):
    """`forward` calls no function of its module."""


def function_behind(
    module: ModuleType, layer: nn.Module, inputs: Sequence[Any]
) -> functools.partial[Any]:
    """The function with its arguments. The layer is called once. Raises `NoFunctionCalled`."""
    recorded: list[functools.partial[Any]] = []

    def recording(function: Callable[..., Any]) -> Callable[..., Any]:
        def record(*args: Any, **named: Any) -> Any:
            recorded.append(functools.partial(function, *args, **named))
            return function(*args, **named)

        return record

    members = {name: getattr(module, name) for name in module.__all__}
    functions = {n: recording(f) for n, f in members.items() if not isinstance(f, type)}
    with patch.dict(vars(module), functions):
        layer(*inputs)
    if not recorded:
        raise NoFunctionCalled("`forward` calls no function of its module")
    return recorded[0]
