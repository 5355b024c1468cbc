"""The function behind a generated module, and the arguments that its `forward` calls it with."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any
from unittest.mock import patch

from torch import nn


class NoFunctionCalled(Exception):
    """A `forward` that calls no function of its module."""


def function_behind(
    module: ModuleType, layer: nn.Module, inputs: Sequence[Any]
) -> functools.partial[Any]:
    """The function with its arguments. The layer is called once. Raises `NoFunctionCalled`."""
    seen: list[functools.partial[Any]] = []

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def note(*args: Any, **named: Any) -> Any:
            seen.append(functools.partial(function, *args, **named))
            return function(*args, **named)

        return note

    members = {name: getattr(module, name) for name in module.__all__}
    functions = {n: noting(f) for n, f in members.items() if not isinstance(f, type)}
    with patch.dict(vars(module), functions):
        layer(*inputs)
    if not seen:
        raise NoFunctionCalled("`forward` calls no function of its module")
    return seen[0]
