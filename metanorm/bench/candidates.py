"""What is timed: a compiled norm, its peer, its equations, and those under `torch.compile`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.clock import Prepare
from metanorm.bench.equations import module_of_equations
from metanorm.bench.peers import peer
from metanorm.bench.workload import Workload
from metanorm.frontend import CheckedNorm
from metanorm.ir.nodes import Program
from metanorm.verify.cases import Built


@dataclass
class Candidate:
    """A layer on its inputs."""

    name: str
    layer: Callable[..., Any]
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
) -> Iterator[Candidate]:
    """The layers to time on a workload; `known` is the norm of the library that this one equals."""
    program = norm.program
    inputs = _inputs(program, built)
    yield _candidate("metanorm", _made(program, module, built, workload), inputs)
    found = peer(known, workload.shape, built.arguments)
    if found is not None:
        origin, layer = found
        yield _candidate(origin, layer.to(workload.dtype), inputs)
    by_hand = _made(program, module_of_equations(norm), built, workload)
    yield _candidate("equations", by_hand, inputs)
    if traced:
        again = _made(program, module_of_equations(norm), built, workload)
        yield _candidate("torch.compile", again, inputs, traced=True)


def _candidate(
    name: str, layer: nn.Module, inputs: tuple[Any, ...], traced: bool = False
) -> Candidate:
    leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad]
    call = torch.compile(layer) if traced else layer
    return Candidate(name, call, inputs, [*leaves, *layer.parameters()], traced)


def _made(program: Program, module: ModuleType, built: Built, workload: Workload) -> nn.Module:
    layer: nn.Module = getattr(module, program.name)(**built.arguments)
    return layer.to(workload.dtype)


def _inputs(program: Program, built: Built) -> tuple[Any, ...]:
    """The arguments of a call in their order: each index is followed by its number of groups."""
    inputs: list[Any] = []
    for name, x in built.inputs.items():
        real = x is not None and x.is_floating_point()
        inputs.append(x.requires_grad_() if x is not None and real else x)
        if name in built.groups:
            inputs.append(built.groups[name] if x is not None else None)
    return tuple(inputs)
