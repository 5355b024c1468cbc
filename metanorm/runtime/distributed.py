"""Calls with `DTensor`s, which are distributed over several devices.

Each process computes its pieces where the norm's axes can be divided. Where they cannot, the norm
runs on torch's operations, for which DTensor gathers what they need; tensors that a norm makes
itself, such as a range of positions, are replicated.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from metanorm.runtime.errors import ShapeError
from metanorm.runtime.processes.distributed_tensors import call_on_pieces
from metanorm.runtime.processes.placements import CannotPlace
from metanorm.runtime.processes.process_groups import demand_within

_this_thread = threading.local()


def is_distributed(x: object) -> bool:
    """Whether this is a `DTensor`, whose module must have been imported then."""
    module = sys.modules.get("torch.distributed.tensor")
    return module is not None and isinstance(x, module.DTensor)


def must_distribute(x: object) -> bool:
    """Whether a call with `x` is for `call_distributed`, and not inside of one already."""
    inside = getattr(_this_thread, "inside", False)
    return type(x) is not Tensor and not inside and is_distributed(x)


def call_distributed(forward: Callable[..., Any], *inputs: Any, **named: Any) -> Any:
    """The result of a norm for a `DTensor`.

    Raises `TypeError` where another input, a parameter or a buffer is a plain tensor,
    `ShardingError` where the norm is divided among groups that the mesh lacks, and
    `NotImplementedError` where torch has no such operation for a tensor that is laid out so.
    """
    module: nn.Module = forward.__self__  # type: ignore[attr-defined]
    x, name = inputs[0], type(module).__name__
    demand_within(module, x.device_mesh)
    tensors = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    if any(isinstance(t, Tensor) and not is_distributed(t) for t in (*inputs, *named.values())):
        raise TypeError(f"{name}: x is a DTensor, and another input is not: distribute it too")
    for label, tensor in tensors:
        if not is_distributed(tensor):
            raise TypeError(
                f"{name}: x is a DTensor, and {label} is not: call torch.distributed.tensor."
                "distribute_module(module, mesh) first"
            )
    if forward.__name__ == "forward":
        with suppress(CannotPlace):
            return call_on_pieces(module, inputs, named)
    _this_thread.inside = True
    try:
        with _Replicated(x.device_mesh):
            return forward(*inputs, **named)
    except ShapeError:
        raise
    except (NotImplementedError, RuntimeError) as error:
        raise NotImplementedError(
            f"{name}: torch cannot compute this for a DTensor placed by {x.placements}: {error}"
        ) from error
    finally:
        _this_thread.inside = False


def replicated_beside(x: Any) -> AbstractContextManager[object]:
    """A context that replicates tensors which are made from numbers, if `x` is a `DTensor`."""
    return _Replicated(x.device_mesh) if is_distributed(x) else nullcontext()


class _Replicated(TorchFunctionMode):
    """Replicates each tensor that a norm makes from numbers."""

    def __init__(self, mesh: Any) -> None:
        super().__init__()
        self.mesh = mesh

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        from torch.distributed.tensor import DTensor, Replicate

        result = func(*args, **(kwargs or {}))
        if type(result) is not Tensor or result.requires_grad:
            return result
        placements = [Replicate()] * self.mesh.ndim
        return DTensor.from_local(result, self.mesh, placements, run_check=False)
