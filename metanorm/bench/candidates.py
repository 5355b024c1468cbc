"""What is timed: a norm on kernels and without, its peer, its equations, and those compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.clock import Prepare
from metanorm.bench.equations import module_of_equations
from metanorm.bench.peers import peer
from metanorm.bench.workload import Workload
from metanorm.frontend import CheckedNorm
from metanorm.runtime import use
from metanorm.verify.cases import Built
from metanorm.verify.compare import has_kernels

Call = Callable[..., Any]
Wrap = Callable[[nn.Module], Call]


@dataclass
class Candidate:
    """A layer on its inputs."""

    name: str
    layer: Call
    inputs: tuple[Any, ...]
    leaves: list[Tensor]
    traced: bool = False  # runs compiled code, of which single tensors cannot be watched

    def forward(self) -> Tensor:
        """The first output."""
        result = self.layer(*self.inputs)
        first: Tensor = result if isinstance(result, Tensor) else result[0]
        return first

    @property
    def tensors(self) -> list[Tensor]:
        """What is there before a call: inputs and parameters."""
        return [*(x for x in self.inputs if isinstance(x, Tensor)), *self.leaves]

    def prepare(self, phase: str) -> Prepare:
        """What the clock runs for a phase: something that makes the call to be timed."""
        slope = torch.randn_like(self.forward().detach())

        def fresh() -> Callable[[], object]:
            for leaf in self.leaves:
                leaf.grad = None
            if phase == "forward":
                return self.forward
            if phase == "both":
                return lambda: torch.autograd.backward(self.forward(), slope)
            y = self.forward()
            return lambda: torch.autograd.backward(y, slope)

        return fresh


def candidates(
    norm: CheckedNorm,
    module: ModuleType,
    known: str,
    workload: Workload,
    built: Built,
    traced: bool = True,
) -> Iterator[tuple[str, Callable[[], Candidate]]]:
    """What to time on a workload, by name; each is made by a call, which may fail for it alone.

    `known` is the norm of the library that this one equals.
    """
    inputs = _inputs(built)

    def candidate(name: str, make: Callable[[], nn.Module], wrap: Wrap = _as_it_is) -> Candidate:
        layer = make().to(workload.dtype)
        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
        traced = wrap is _traced
        return Candidate(name, wrap(layer), inputs, [*leaves, *layer.parameters()], traced)

    def of(source: ModuleType) -> nn.Module:
        layer: nn.Module = getattr(source, norm.program.name)(**built.arguments)
        return layer

    yield "metanorm", lambda: candidate("metanorm", lambda: of(module))
    if has_kernels(module):
        yield "plain torch", lambda: candidate("plain torch", lambda: of(module), _without_kernels)
    found = peer(known)
    if found is not None:
        origin, other = found
        layer = partial(other, workload.shape, built.arguments)
        yield origin, lambda: candidate(origin, layer)
    plain = module_of_equations(norm)
    yield "equations", lambda: candidate("equations", lambda: of(plain))
    if traced:
        yield "torch.compile", lambda: candidate("torch.compile", lambda: of(plain), _traced)


def _as_it_is(layer: nn.Module) -> Call:
    return layer


def _without_kernels(layer: nn.Module) -> Call:
    """The layer on its torch target; what it computes backward follows from how it ran forward."""

    def call(*inputs: Any) -> Any:
        with use("torch"):
            return layer(*inputs)

    return call


def _traced(layer: nn.Module) -> Call:
    """Under `torch.compile`, as if nothing had been compiled before: there is a limit to that."""
    torch.compiler.reset()
    call: Call = torch.compile(layer)
    return call


def _inputs(built: Built) -> tuple[Any, ...]:
    """The arguments of a call in their order: each index is followed by its number of groups."""
    inputs: list[Any] = []
    for name, x in built.inputs.items():
        real = x is not None and x.is_floating_point()
        inputs.append(x.requires_grad_() if x is not None and real else x)
        if name in built.groups:
            inputs.append(built.groups[name] if x is not None else None)
    return tuple(inputs)
