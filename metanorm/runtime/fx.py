"""What `torch.fx` makes of a norm: one node for the whole of it.

A norm inside a model is a leaf, as torch's own layers are: the graph calls the module, which keeps
its parameters, its mode and its hooks. A norm that is traced by itself becomes the functions that
it calls, each of which is a node: `leaf` stands above them. So no `Proxy` meets a condition.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.fx.node import has_side_effect

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

# It finds the module of its function by its caller, so that nothing may stand in between.
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


@has_side_effect
def count_batch(counter: Tensor | None, x: Tensor) -> None:
    """Count the batch `x`, where batches are counted."""
    if counter is None:
        return
    if isinstance(x, Proxy):
        x.tracer.create_proxy("call_function", count_batch, (counter, x), {})
    else:
        counter.add_(1)
