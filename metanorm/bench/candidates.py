"""What is timed: a norm on kernels and without, its peers, its equations, and those compiled."""

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
from metanorm.ir.nodes import Program
from metanorm.runtime import use

ON_TORCH = "plain torch"
Call = Callable[..., Any]
Wrap = Callable[[nn.Module], Call]


@dataclass
class Candidate:
    """A layer, and the inputs that take turns in it."""

    name: str
    layer: Call
    rotation: Rotation
    parameters: tuple[Tensor, ...]
    traced: bool = False  # runs compiled code, of which single tensors cannot be watched
    overwrites: bool = False  # writes to the gradient of its output

    def forward(self, turn: CallInputs | None = None) -> Tensor:
        """The first output, of the first turn where none is given."""
        result = self.layer(*(turn or self.rotation.turns[0]).inputs)
        first: Tensor = result if isinstance(result, Tensor) else result[0]
        return first

    @property
    def tensors(self) -> list[Tensor]:
        """What is there before a call: inputs and parameters."""
        inputs = self.rotation.turns[0].inputs
        return [*(x for x in inputs if isinstance(x, Tensor)), *self.parameters]

    def prepare(self, phase: str) -> PrepareCall:
        """What the clock runs for a phase: something that makes the call to be timed."""
        slopes = self.rotation.slopes(self.forward().detach())
        turns = cycle(zip(self.rotation.turns, slopes))

        def fresh() -> Callable[[], object]:
            turn, slope = next(turns)
            leaves = (*turn.leaves, *self.parameters)
            if phase == "forward":
                return lambda: self.forward(turn)
            if self.overwrites:
                slope = slope.clone()
            if phase == "both":
                return lambda: _gradients(self.forward(turn), leaves, slope)
            y = self.forward(turn)
            return lambda: _gradients(y, leaves, slope)

        return fresh


def _gradients(y: Tensor, leaves: tuple[Tensor, ...], slope: Tensor) -> object:
    return torch.autograd.grad(y, leaves, slope, allow_unused=True)


@dataclass(frozen=True)
class Case:
    """A norm on a workload. `known` is the norm of the library that it equals."""

    norm: CheckedNorm
    optimised: Program
    module: ModuleType
    known: str
    workload: Workload
    arguments: Mapping[str, Any]
    rotation: Rotation
    device: Device

    def layer(self, source: ModuleType) -> nn.Module:
        """The norm of a module, with the parameters that it begins with."""
        found: nn.Module = getattr(source, self.norm.program.name)(**self.arguments)
        return found

    def candidate(self, name: str, layer: nn.Module, wrap: Wrap, **about: Any) -> Candidate:
        """A layer on the device and with the inputs of this case."""
        layer = layer.to(self.device.type)
        return Candidate(name, wrap(layer), self.rotation, tuple(layer.parameters()), **about)


CandidateFactories = Iterator[tuple[str, Callable[[], Candidate]]]


def candidates(case: Case, traced: bool = True) -> CandidateFactories:
    """What to time, by name; each is made by a call, which may fail for it alone."""
    yield from our_candidates(case)
    yield from peer_candidates(case)
    plain, dtype = module_of_equations(case.norm), case.workload.dtype

    def equations(name: str, wrap: Wrap, **about: Any) -> Candidate:
        return case.candidate(name, case.layer(plain).to(dtype), wrap, **about)

    yield "equations", lambda: equations("equations", _unwrapped)
    if traced:
        yield "torch.compile", lambda: equations("torch.compile", _compiled, traced=True)


def our_candidates(case: Case) -> CandidateFactories:
    """The generated module on kernels, which raises `RanOnTorch` where none serve, and without."""

    def own(name: str, wrap: Wrap) -> Candidate:
        return case.candidate(name, case.layer(case.module).to(case.workload.dtype), wrap)

    def on_kernels() -> Candidate:
        made = own(OURS, _unwrapped)
        demand_kernels(case.optimised, case.module, case.device, made.forward)
        return made

    yield OURS, on_kernels
    yield ON_TORCH, lambda: own(ON_TORCH, _without_kernels)


def peer_candidates(case: Case) -> CandidateFactories:
    """The layers that equal the norm: of packages, and written by hand."""

    def of_others(peer: Peer) -> Candidate:
        layer = peer.layer(case.workload.shape, case.arguments)
        layer = layer.to(peer.dtype or case.workload.dtype)
        return case.candidate(peer.package.name, layer, _unwrapped, overwrites=peer.overwrites)

    for peer in peers(case.known, case.device.type):
        yield peer.package.name, partial(of_others, peer)


def _unwrapped(layer: nn.Module) -> Call:
    return layer


def _without_kernels(layer: nn.Module) -> Call:
    """The layer on its torch target; what it computes backward follows from how it ran forward."""

    def call(*inputs: Any) -> Any:
        with use("torch"):
            return layer(*inputs)

    return call


def _compiled(layer: nn.Module) -> Call:
    """Under `torch.compile`, as if nothing had been compiled before: there is a limit to that."""
    torch.compiler.reset()
    call: Call = torch.compile(layer)
    return call
