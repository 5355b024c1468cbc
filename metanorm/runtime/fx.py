"""Norms under `torch.fx`: one node for a norm, so that no condition has to be traced.

A norm in a model is a leaf, as torch's layers are: the graph calls the module, which keeps its
parameters, its mode and its hooks. A norm that is traced by itself becomes a node for each function
that it calls: `leaf` decorates these functions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.fx.node import has_side_effect

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

# It finds the module of its function by the frame of its caller: no wrapper may come in between.
leaf = cast(Callable[[F], F], torch.fx.wrap)


def is_inner(module: nn.Module, x: Proxy) -> bool:
    """Whether `torch.fx` traces a model that the module is a part of."""
    return getattr(x.tracer, "root", None) is not module


def call_module(forward: Callable[P, R], *inputs: P.args, **named: P.kwargs) -> R:
    """A node that calls the module that a method belongs to, with `Proxy`s among its inputs."""
    module: nn.Module = forward.__self__  # type: ignore[attr-defined]
    tracer: Any = next(x.tracer for x in (*inputs, *named.values()) if isinstance(x, Proxy))
    node = tracer.create_proxy("call_module", tracer.path_of_module(module), inputs, named)
    return cast(R, node)


def node(function: Callable[P, R]) -> Callable[P, R]:
    """A function that becomes a node of the graph where its first argument is a `Proxy`."""

    @functools.wraps(function)
    def traced(*arguments: P.args, **named: P.kwargs) -> R:
        x = arguments[0]
        if isinstance(x, Proxy):
            proxy = x.tracer.create_proxy("call_function", traced, arguments, named)
            return cast(R, proxy)
        return function(*arguments, **named)

    return traced


@has_side_effect
def count_batch(counter: Tensor | None, x: Tensor) -> None:
    """Count up the batches by one, if there is a counter."""
    if counter is None:
        return
    if isinstance(x, Proxy):
        x.tracer.create_proxy("call_function", count_batch, (counter, x), {})
    else:
        counter.add_(1)
