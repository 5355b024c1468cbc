"""Where the tensors of a call lie: all on the device of the first input.

Operations of torch raise for tensors of several devices, but not all: an in-place one on a tensor
of the CPU with a tensor on `meta` does nothing, and says nothing.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.tensors import recorded


def demand_one_device(
    function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """Refuse a tensor on another device than the first of a call: `RuntimeError`.

    A single number on the CPU may stand beside tensors of any device, as in torch. Programs that
    are being traced or compiled are left to torch, which knows the devices of what it made up.
    """
    if torch.compiler.is_compiling():
        return
    values = (*args, *named.values())
    first = values[0] if values else None
    if not isinstance(first, Tensor):
        return
    device = first.device
    if any(_is_elsewhere(value, device) for value in values) and not recorded(first):
        _demand_alike(function, args, named)


def _is_elsewhere(value: Any, device: torch.device) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device != device
        and not (value.is_cpu and value.dim() == 0)
    )


def _demand_alike(
    function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any]
) -> None:
    """The same by name. The matrix of a constructor is brought to the device, if it has data."""
    signature = inspect.signature(function)
    given = signature.bind(*args, **named).arguments
    (first, x), *others = given.items()
    for name, value in others:
        if not _is_elsewhere(value, x.device):
            continue
        if "str" in str(signature.parameters[name].annotation) and not value.is_meta:
            continue
        raise RuntimeError(
            f"{function.__name__}: {name} is on {value.device} and {first} on {x.device}, but all "
            "tensors of a call must be on one device"
        )
