"""A check that all tensors of a call are on the device of the first input.

Most operations of torch raise for tensors of several devices, but not all: an in-place operation on
a CPU tensor with a `meta` tensor does nothing, without an error.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.tensors import must_decompose


def demand_one_device(owner: str, arguments: Mapping[str, Any], movable: Container[str]) -> None:
    """Raise `RuntimeError` for a tensor on another device than the first of a call.

    A `movable` tensor may be on any device but `meta`. A scalar on the CPU may be combined with
    tensors of any device, as in torch. Programs that are traced or compiled are not checked: torch
    knows the devices of fake tensors.
    """
    if torch.compiler.is_compiling() or not arguments:
        return
    first, x = next(iter(arguments.items()))
    if not isinstance(x, Tensor):
        return
    other_device = [name for name, value in arguments.items() if _is_elsewhere(value, x.device)]
    for name in other_device:
        if (name in movable and not arguments[name].is_meta) or must_decompose(x):
            continue
        raise RuntimeError(
            f"{owner}: {name} is on {arguments[name].device} and {first} on {x.device}, but all "
            "tensors of a call must be on one device"
        )


def _is_elsewhere(value: Any, device: torch.device) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device != device
        and not (value.is_cpu and value.dim() == 0)
    )
