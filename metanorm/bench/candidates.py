"""The candidates of a benchmark: a norm on kernels and without, its peers, its equations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.clock import PrepareCall
from metanorm.bench.device import Device
from metanorm.bench.equations import module_of_equations
from metanorm.bench.fallback import demand_kernels
from metanorm.bench.peers.peer import Peer
from metanorm.bench.peers.table import peers
from metanorm.bench.report import OURS
from metanorm.bench.rotation import CallInputs, Rotation
from metanorm.bench.workload import Workload
from metanorm.frontend import CheckedNorm
from metanorm.ir.program import Program
from metanorm.runtime import use

ON_TORCH = "plain torch"
Call = Callable[..., Any]
Wrap = Callable[[nn.Module], Call]


@dataclass
class Candidate:
    """A layer to time, and the inputs that it gets in turn."""

    name: str
    layer: Call
    rotation: Rotation
    parameters: tuple[Tensor, ...]
    traced: bool = False  # by torch.compile; its single tensors cannot be measured
    overwrites: bool = False  # modifies the gradient of its output in place

    def forward(self, inputs: CallInputs | None = None) -> Tensor:
        """The first output, for these inputs or the first ones of the rotation."""
        result = self.layer(*(inputs or self.rotation.turns[0]).inputs)
        output: Tensor = result if isinstance(result, Tensor) else result[0]
        return output

    @property
    def tensors(self) -> list[Tensor]:
        """The tensors that exist before a call: inputs and parameters."""
        inputs = self.rotation.turns[0].inputs
        return [*(x for x in inputs if isinstance(x, Tensor)), *self.parameters]

    def prepare(self, phase: str) -> PrepareCall:
        """A function that prepares a call of a phase, and returns the call to time."""
        grad_outputs = self.rotation.grad_outputs(self.forward().detach())
        calls = cycle(zip(self.rotation.turns, grad_outputs))

        def fresh() -> Callable[[], object]:
            inputs, grad_output = next(calls)
            leaves = (*inputs.leaves, *self.parameters)
            if phase == "forward":
                return lambda: self.forward(inputs)
            if self.overwrites:
                grad_output = grad_output.clone()
            if phase == "both":
                return lambda: _gradients(self.forward(inputs), leaves, grad_output)
            y = self.forward(inputs)
            return lambda: _gradients(y, leaves, grad_output)

        return fresh


def _gradients(output: Tensor, leaves: tuple[Tensor, ...], grad_output: Tensor) -> object:
    return torch.autograd.grad(output, leaves, grad_output, allow_unused=True)


@dataclass(frozen=True)
class Case:
    """A norm on a workload. `library_norm` is the norm of the library that it equals, or empty."""

    norm: CheckedNorm
    optimised: Program
    module: ModuleType
    library_norm: str
    workload: Workload
    arguments: Mapping[str, Any]
    rotation: Rotation
    device: Device

    def layer(self, source: ModuleType) -> nn.Module:
        """A new layer of the norm, from a module with its class."""
        layer: nn.Module = getattr(source, self.norm.program.name)(**self.arguments)
        return layer

    def candidate(self, name: str, layer: nn.Module, wrap: Wrap, **about: Any) -> Candidate:
        """A layer as a candidate, on the device and with the inputs of this case."""
        layer = layer.to(self.device.type)
        return Candidate(name, wrap(layer), self.rotation, tuple(layer.parameters()), **about)


CandidateFactories = Iterator[tuple[str, Callable[[], Candidate]]]


def candidates(case: Case, traced: bool = True) -> CandidateFactories:
    """All candidates by name. Each is created by a call, which may raise for it alone."""
    yield from our_candidates(case)
    yield from peer_candidates(case)
    equations_module, dtype = module_of_equations(case.norm), case.workload.dtype

    def equations(name: str, wrap: Wrap, **about: Any) -> Candidate:
        return case.candidate(name, case.layer(equations_module).to(dtype), wrap, **about)

    yield "equations", lambda: equations("equations", unwrapped)
    if traced:
        yield "torch.compile", lambda: equations("torch.compile", _compiled, traced=True)


def our_candidates(case: Case) -> CandidateFactories:
    """The generated module on kernels and on plain torch. Kernels may raise `RanOnTorch`."""

    def candidate_of_module(name: str, wrap: Wrap) -> Candidate:
        return case.candidate(name, case.layer(case.module).to(case.workload.dtype), wrap)

    def on_kernels() -> Candidate:
        candidate = candidate_of_module(OURS, unwrapped)
        demand_kernels(case.optimised, case.module, case.device, candidate.forward)
        return candidate

    yield OURS, on_kernels
    yield ON_TORCH, lambda: candidate_of_module(ON_TORCH, without_kernels)


def peer_candidates(case: Case) -> CandidateFactories:
    """The layers that equal the norm, of packages or written by hand."""

    def candidate_of_peer(peer: Peer) -> Candidate:
        layer = peer.layer(case.workload.shape, case.arguments)
        layer = layer.to(peer.dtype or case.workload.dtype)
        return case.candidate(peer.package.name, layer, unwrapped, overwrites=peer.overwrites)

    for peer in peers(case.library_norm, case.device.type):
        yield peer.package.name, partial(candidate_of_peer, peer)


def unwrapped(layer: nn.Module) -> Call:
    """The layer as it is."""
    return layer


def without_kernels(layer: nn.Module) -> Call:
    """The layer on plain torch. The forward pass decides what the backward pass runs on."""

    def call(*inputs: Any) -> Any:
        with use("torch"):
            return layer(*inputs)

    return call


def _compiled(layer: nn.Module) -> Call:
    """The layer under `torch.compile`, after a reset: the number of compilations is limited."""
    torch.compiler.reset()
    call: Call = torch.compile(layer)
    return call
