"""Norms beside modules of plain torch with the same state, over several calls."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import torch
from comparing import gradients, leaf_of, outputs_of, route_of
from conftest import PROGRAMS
from torch import Tensor, nn

from metanorm import runtime

F64 = torch.float64


@dataclass(frozen=True)
class Twin:
    """A norm, its arguments, and a module after the authors' code.

    `names` has what a parameter or a buffer is called there where it is called otherwise, and
    `without_twin` the buffers that are compared with none of theirs.
    `inputs` are shapes of random tensors, or tensors, and `method` is what is called instead of the
    norm. Both directions run on kernels in C, unless `torch_only` has the compiler's reason.
    """

    norm: str
    arguments: dict[str, Any]
    theirs: Callable[[], nn.Module]
    inputs: tuple[tuple[int, ...] | Tensor, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    method: str = "forward"
    without_twin: frozenset[str] = frozenset()
    torch_only: str = ""

    def __str__(self) -> str:
        return "-".join([self.norm, *map(str, self.arguments.values())])


def check_twin(twin: Twin, norms: ModuleType, target: str, calls: int = 3) -> None:
    """Outputs and gradients agree in each call of training and in evaluation, and so does what is
    kept in between."""
    if twin.torch_only:
        target = route_of(target, PROGRAMS[twin.norm], twin.torch_only)
    torch.manual_seed(0)
    ours = getattr(norms, twin.norm)(**twin.arguments).double()
    theirs = twin.theirs().double()
    share_state(ours, theirs, twin.names)
    for call in range(calls + 1):
        ours.train(call < calls)
        theirs.train(call < calls)
        _compare(ours, theirs, twin, target)
        state, other = ours.state_dict(), theirs.state_dict()
        kept = {name for name in state if "num_batches" not in name}  # not all authors count calls
        shared = {name for name in kept if twin.names.get(name, name) in other}
        assert kept - shared == twin.without_twin
        for name in shared:
            right = other[twin.names.get(name, name)].reshape(state[name].shape)
            torch.testing.assert_close(state[name].to(F64), right.to(F64))


def share_state(ours: nn.Module, theirs: nn.Module, names: Mapping[str, str]) -> None:
    """Give both the same random parameters."""
    wanted = dict(theirs.named_parameters())
    with torch.no_grad():
        for name, parameter in ours.named_parameters():
            nn.init.normal_(parameter, 0.6, 0.5)
            other = wanted[names.get(name, name)]
            other.copy_(parameter.reshape(other.shape))


def _compare(ours: nn.Module, theirs: nn.Module, twin: Twin, target: str) -> None:
    inputs = [2 * torch.randn(i, dtype=F64) + 1 if isinstance(i, tuple) else i for i in twin.inputs]
    operands, copies = ([leaf_of(i) for i in inputs] for _ in range(2))
    with runtime.use(target):  # type: ignore[arg-type]
        actual = outputs_of(getattr(ours, twin.method)(*operands))
        right = outputs_of(getattr(theirs, twin.method)(*copies))
        assert len(actual) == len(right)
        cotangents = [torch.randn_like(r) for r in right]
        params = dict(ours.named_parameters())
        got = gradients(actual, [*filter(_has_gradient, operands), *params.values()], cotangents)
    for one, other in zip(actual, right):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    wanted = dict(theirs.named_parameters())
    leaves = [*filter(_has_gradient, copies), *(wanted[twin.names.get(n, n)] for n in params)]
    for one, other in zip(got, gradients(right, leaves, cotangents)):
        torch.testing.assert_close(one, other.reshape(one.shape), rtol=1e-8, atol=1e-8)


def _has_gradient(tensor: Tensor) -> bool:
    return tensor.requires_grad
