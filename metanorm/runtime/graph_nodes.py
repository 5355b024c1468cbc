"""What `torch.compile` makes of a norm's function: one node of the graph.

The frontend of torch.compile does not look into a function of torch, and does into every other: it
follows each function that a norm calls and guards each object that they read, which every compiled
call compares again. So the function of a norm is put into the graph as those of torch are. The
backend looks into it as before, and makes the same kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from metanorm.runtime.demands import DEMAND
from metanorm.runtime.on_torch import OnTorch

_new: list[Callable[..., Any]] = []  # nodes that torch has not been told of


def compiled(on_torch: OnTorch, on_kernels: Callable[..., Any] | None = None) -> Callable[..., Any]:
    """The calls of a norm's function that `torch.compile` and `torch.export` record.

    They are one node each. Only where the number of groups has to be read from their labels, which
    no node may do, torch follows the function.

    Where kernels are demanded while the graph is made, the node stands for a call of `on_kernels`.
    """
    name = on_torch.function.__name__
    parameters = on_torch.signature.parameters.values()
    counts = [i for i, p in enumerate(parameters) if str(p.annotation) == "int | None"]

    def node(*args: Any, **named: Any) -> Any:
        if on_kernels is not None and _keeps_kernels():
            return on_kernels(*on_torch.signature.bind(*args, **named).args)
        try:
            return on_torch(*args, **named)
        except (TypeError, ValueError, RuntimeError) as error:
            if torch.compiler.is_compiling():
                _leave_to_eager(error)
            raise

    def call(*args: Any, **named: Any) -> Any:
        in_data = bool(counts) and (bool(named) or any(args[i] is None for i in counts))
        if not _are_nodes() or (in_data and not _keeps_kernels()):
            return on_torch(*args, **named)
        return node(*args, **named)

    node.__name__ = node.__qualname__ = name
    _new.append(node)
    return call


def _keeps_kernels() -> bool:
    """Whether the graph that is being made is to call kernels; one that is exported runs where
    there may be none."""
    compiling = torch.compiler.is_compiling() and not torch.compiler.is_exporting()
    return compiling and DEMAND.get().target == "native"


def _are_nodes() -> bool:
    """Whether functions are put into the graph that is being made as nodes.

    The frontend runs this function instead of following it, and so tells torch of them at the last
    moment: what has to be imported to do so takes a second, and many programs never compile.
    """
    if torch.compiler.is_dynamo_compiling() or not torch.compiler.is_compiling():
        # Followed after all, or by a torch that does not let a node know where it runs.
        return False
    while _new:
        torch.compiler.allow_in_graph(_new.pop())  # type: ignore[no-untyped-call]
    return True


# As `torch.compiler.assume_constant_result` has it, which would import the frontend.
for decision in (_are_nodes, _keeps_kernels):
    decision._dynamo_marked_constant = True  # type: ignore[attr-defined]


def _leave_to_eager(error: Exception) -> None:
    """Have a call that a norm refuses raise where it runs, in the words that it has everywhere."""
    from torch._dynamo.exc import Unsupported

    raise Unsupported(str(error)) from error
