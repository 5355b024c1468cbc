"""What `torch.compile` makes of a norm's function: one node of the graph.

The frontend of torch.compile does not look into a function of torch, and does into every other: it
follows each function that a norm calls and guards each object that they read, which every compiled
call compares again. So the function of a norm is put into the graph as those of torch are. The
backend looks into it as before, and makes the same kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any
from weakref import WeakSet

import torch

from metanorm.runtime.demands import kernels_in_graphs
from metanorm.runtime.on_torch import OnTorch

Function = Callable[..., Any]

_new: WeakSet[Function] = WeakSet()  # nodes that torch does not know yet


def compiled(
    on_torch: OnTorch, operation: Function | None = None, eager: Function | None = None
) -> Function:
    """The calls of a norm's function that `torch.compile` and `torch.export` record.

    They are one node each. Only where the number of groups has to be read from their labels, which
    no node may do, torch follows the function.

    Where kernels are demanded, the node stands for a call of `operation`. Calls that no graph can
    hold it leaves to `eager`, between two graphs.
    """
    name = on_torch.function.__name__
    parameters = on_torch.signature.parameters.values()
    counts = [i for i, p in enumerate(parameters) if str(p.annotation) == "int | None"]

    def on_operation(*args: Any, **named: Any) -> Any:
        return operation(*on_torch.signature.bind(*args, **named).args)  # type: ignore[misc]

    equations = _either(on_torch, on_torch, name)
    kernels = _either(on_operation, eager or on_torch, name)

    def call(*args: Any, **named: Any) -> Any:
        # What is exported runs where there may be no kernels.
        if kernels_in_graphs() and operation and not torch.compiler.is_exporting():
            return kernels(*args, **named) if _are_nodes() else on_torch(*args, **named)
        return equations(*args, **named) if _are_nodes() else on_torch(*args, **named)

    def call_or_follow(*args: Any, **named: Any) -> Any:
        in_data = bool(named) or any(args[i] is None for i in counts)
        if in_data and not kernels_in_graphs():
            return on_torch(*args, **named)
        return call(*args, **named)

    return call_or_follow if counts else call


def _either(recorded: Function, eager: Function, name: str) -> Function:
    """What a node computes while torch makes a graph, and where it is called as it is: by the
    backend `eager`, and for calls that are in no graph."""

    def node(*args: Any, **named: Any) -> Any:
        if not torch.compiler.is_compiling():
            return torch.compiler.disable(eager)(*args, **named)  # type: ignore[no-untyped-call]
        try:
            return recorded(*args, **named)
        except (TypeError, ValueError, RuntimeError) as error:
            from torch._dynamo.exc import Unsupported

            # It is called as it is, and raises in the words that it has everywhere.
            raise Unsupported(str(error)) from error

    node.__name__ = node.__qualname__ = name
    _new.add(node)
    return node


def _announce(node: Function) -> None:
    """Have torch put a node into graphs, and not follow it where it is called as it is."""
    torch.compiler.allow_in_graph(node)  # type: ignore[no-untyped-call]
    with suppress(ImportError):  # without it, torch compiles those calls, too
        from torch._dynamo.eval_frame import skip_code

        skip_code(node.__code__)


def _are_nodes() -> bool:
    """Whether functions are put into the graph that is being made as nodes.

    The frontend runs this function instead of following it, and so hears of nodes at the last
    moment: what has to be imported to tell it takes a second, and many programs never compile.
    """
    if torch.compiler.is_dynamo_compiling() or not torch.compiler.is_compiling():
        # Followed after all, or by a torch that does not let a node know where it runs.
        return False
    while _new:
        _announce(_new.pop())
    return True


# As `torch.compiler.assume_constant_result` has it, which would import the frontend.
_are_nodes._dynamo_marked_constant = True  # type: ignore[attr-defined]
