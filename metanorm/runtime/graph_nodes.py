"""A norm's function as one node of the graphs of `torch.compile`.

Dynamo traces every function but those of torch: it guards each object that they read, and every
compiled call compares these guards. So the function of a norm is put into the graph as one node, as
functions of torch are. The backend traces into it, and makes the same kernels as without.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import torch

from metanorm.runtime.backends import kernels_in_graphs
from metanorm.runtime.checked_function import CheckedFunction

Function = Callable[..., Any]

_unannounced: WeakSet[Function] = WeakSet()  # nodes that Dynamo does not know yet


def graph_function(
    on_torch: CheckedFunction, operation: Function | None = None, eager: Function | None = None
) -> Function:
    """The function that `torch.compile` and `torch.export` call: each call is one node.

    If the number of groups has to be read from labels, which a node cannot do, Dynamo traces the
    function instead.

    If `use` asks for kernels, the node calls `operation`. A call that no graph can hold runs by
    `eager`, between two graphs.
    """
    name = on_torch.function.__name__
    parameters = on_torch.signature.parameters.values()
    counts = [i for i, p in enumerate(parameters) if str(p.annotation) == "int | None"]

    def on_operation(*args: Any, **named: Any) -> Any:
        return operation(*on_torch.signature.bind(*args, **named).args)  # type: ignore[misc]

    equations = _node(on_torch, on_torch, name)
    kernels = _node(on_operation, eager or on_torch, name)

    def call(*args: Any, **named: Any) -> Any:
        # An exported program may run where there are no kernels.
        if kernels_in_graphs() and operation and not torch.compiler.is_exporting():
            return kernels(*args, **named) if _nodes_are_allowed() else on_torch(*args, **named)
        return equations(*args, **named) if _nodes_are_allowed() else on_torch(*args, **named)

    def call_or_trace(*args: Any, **named: Any) -> Any:
        count_is_in_data = bool(named) or any(args[i] is None for i in counts)
        if count_is_in_data and not kernels_in_graphs():
            return on_torch(*args, **named)
        return call(*args, **named)

    return call_or_trace if counts else call


def between_graphs(function: Function, name: str, reason: str) -> Function:
    """The function that `torch.compile` calls for one that no graph can hold, for this reason.

    It runs between two graphs. Where a graph may not break, torch reports the reason.
    """

    def refuse(*args: Any, **named: Any) -> Any:
        raise RuntimeError(reason)

    node = _node(refuse, function, name)

    def call(*args: Any, **named: Any) -> Any:
        return node(*args, **named) if _nodes_are_allowed() else refuse()

    return call


def _node(recorded: Function, eager: Function, name: str) -> Function:
    """A node: `recorded` runs while torch traces it, `eager` where no graph holds the call."""

    def node(*args: Any, **named: Any) -> Any:
        if not torch.compiler.is_compiling():
            return torch.compiler.disable(eager)(*args, **named)  # type: ignore[no-untyped-call]
        try:
            return recorded(*args, **named)
        except (TypeError, ValueError, RuntimeError) as error:
            from torch._dynamo.exc import Unsupported

            # Dynamo then calls it between two graphs, where it raises the error as everywhere.
            raise Unsupported(str(error)) from error

    node.__name__ = node.__qualname__ = name
    _unannounced.add(node)
    return node


def _allow_in_graph(node: Function) -> None:
    """Let Dynamo put a node into graphs, and skip it where it is called between graphs."""
    torch.compiler.allow_in_graph(node)  # type: ignore[no-untyped-call]
    with suppress(ImportError):  # without it, torch compiles those calls, too
        from torch._dynamo.eval_frame import skip_code

        skip_code(node.__code__)


def _nodes_are_allowed() -> bool:
    """Whether nodes can be put into the graph that is being compiled.

    Dynamo calls this function instead of tracing it. So nodes are registered at the last moment:
    the import for that takes a second, and many programs never compile.
    """
    if torch.compiler.is_dynamo_compiling() or not torch.compiler.is_compiling():
        # Traced after all, or by a torch that cannot tell a node where it runs.
        return False
    while _unannounced:
        _allow_in_graph(_unannounced.pop())
    return True


# As `torch.compiler.assume_constant_result` has it, which would import the frontend.
_nodes_are_allowed._dynamo_marked_constant = True  # type: ignore[attr-defined]
