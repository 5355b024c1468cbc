"""Sums of the gradients of a norm's parameters over processes, where each has a part of them.

All parameters pass through one function at the beginning of a call, so that one message goes back
for each group, behind all others of the call: in what order autograd reaches the parameters differs
between kernels, torch and empty pieces.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from metanorm.runtime.processes.call import GroupInfo
from metanorm.runtime.processes.message import BACKWARD, sum_over_processes

GradientSums = Mapping[GroupInfo, Sequence[str]]  # names of parameters, by group
STAGE = 1 << 10  # of these messages, behind the stages of all pools


class WithSummedGradients:
    """A module whose parameters have gradients that are sums over processes; all else is its own.

    Parameters that are frozen have no part in messages: they are to be so on all processes.
    """

    def __init__(self, module: nn.Module, sums: GradientSums, identity: int, owner: str) -> None:
        self.summed_module = module
        self._buffers = module._buffers
        names = list(dict.fromkeys(name for summed in sums.values() for name in summed))
        values = {name: getattr(module, name) for name in names}  # one may be computed, by pruning
        wanted = {n: p for n, p in values.items() if p is not None and p.requires_grad}
        messages = tuple(
            (group, size, identity, owner, tuple(i for i, n in enumerate(wanted) if n in summed))
            for (group, size), summed in sums.items()
        )
        shared: Mapping[str, Tensor] = {}
        if wanted and torch.is_grad_enabled():
            function = _CompiledShared if torch.compiler.is_compiling() else _Shared
            passed = function.apply(messages, *wanted.values())  # type: ignore[no-untyped-call]
            shared = dict(zip(wanted, passed))
        self._parameters = {**module._parameters, **shared}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.summed_module, name)


def with_summed_gradients(
    module: nn.Module, sums: GradientSums, identity: int, owner: str
) -> nn.Module:
    """What a generated `forward` takes for the module; the module itself if there are no sums."""
    return cast(nn.Module, WithSummedGradients(module, sums, identity, owner)) if sums else module


class _CompiledShared(torch.autograd.Function):
    """Parameters that all processes have, for `torch.compile`."""

    @staticmethod
    def forward(messages: Any, *parameters: Tensor) -> tuple[Tensor, ...]:
        return tuple(parameter.view_as(parameter) for parameter in parameters)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.messages = inputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, ...]:
        totals = list(gradients)
        for group, size, identity, owner, places in ctx.messages:
            if places:
                parts = [totals[i].double().reshape(-1) for i in places]
                place = f"{owner}, gradients of parameters"
                sent = torch.cat(parts)
                total = sum_over_processes(sent, group, size, identity, STAGE, place, BACKWARD)
                pieces = torch.split(total, [part.numel() for part in parts])
                for i, piece in zip(places, pieces):
                    totals[i] = piece.reshape(gradients[i].shape).to(gradients[i].dtype)
        return None, *totals


class _Shared(_CompiledShared):
    """The same with methods for `torch.func`."""

    @staticmethod
    def jvp(ctx: Any, _: Any, *tangents: Tensor) -> tuple[Tensor, ...]:
        return tuple(tangent.view_as(tangent) for tangent in tangents)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], messages: Any, *parameters: Tensor) -> Any:
        return _Shared.apply(messages, *parameters), in_dims[1:]  # type: ignore[no-untyped-call]
