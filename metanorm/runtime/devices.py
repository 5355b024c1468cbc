"""Where the tensors of a call lie: all on the device of the first input.

Operations of torch raise for tensors of several devices, but not all: an in-place one on a tensor
of the CPU with a tensor on `meta` does nothing, and says nothing.
"""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.tensors import must_decompose


def demand_one_device(owner: str, given: Mapping[str, Any], movable: Container[str]) -> None:
    """Refuse a tensor on another device than the first of a call: `RuntimeError`.

    What is `movable` may lie on any device that has data. A single number on the CPU may stand
    beside tensors of any device, as in torch. Programs that are being traced or compiled are left
    to torch, which knows the devices of what it made up.
    """
    if torch.compiler.is_compiling() or not given:
        return
    first, x = next(iter(given.items()))
    if not isinstance(x, Tensor):
        return
    elsewhere = [name for name, value in given.items() if _is_elsewhere(value, x.device)]
    for name in elsewhere:
        if (name in movable and not given[name].is_meta) or must_decompose(x):
            continue
        raise RuntimeError(
            f"{owner}: {name} is on {given[name].device} and {first} on {x.device}, but all "
            "tensors of a call must be on one device"
        )


def _is_elsewhere(value: Any, device: torch.device) -> bool:
    return (
        isinstance(value, Tensor)
        and value.device != device
        and not (value.is_cpu and value.dim() == 0)
    )
