"""The callees of a benchmark: layers of others, the generated module, and parts of its calls."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from metanorm.bench.calls.functions import function_behind
from metanorm.bench.calls.launches import record_launches, replay
from metanorm.bench.calls.phases import BOTH, FORWARD, PHASES, Call, Operands, Phase, first_output
from metanorm.bench.candidates import Case
from metanorm.bench.clock import PrepareCall
from metanorm.bench.equations import module_of_equations
from metanorm.bench.fallback import RanOnTorch, demand_kernels
from metanorm.bench.peers.peer import Peer
from metanorm.bench.peers.table import package_peers
from metanorm.bench.report import OURS
from metanorm.runtime import use
from metanorm.runtime.targets import GRAPH_TARGET, Target

Callee = Mapping[str, PrepareCall]  # by the name of each of its phases
KERNELS, FUNCTION, ON_TORCH = "its kernels", "its function", "plain torch"
EQUATIONS, EMPTY = "equations", "empty module"
COMPILED, COMPILED_ON_KERNELS = "compiled", "compiled, on kernels"
DESCRIPTIONS: Mapping[str, str] = {
    OURS: "the generated module",
    FUNCTION: "the function that its `forward` calls, with the same arguments",
    KERNELS: "its C kernels alone, through ctypes, on memory that is there",
    ON_TORCH: "the generated module without kernels: `runtime.use('torch')`",
    EQUATIONS: "its equations as they stand, with torch's own statistics",
    EMPTY: "an `nn.Module` whose `forward` returns its input",
    COMPILED: "the generated module under `torch.compile`, beside that of others compiled so",
    COMPILED_ON_KERNELS: "the same with kernels in its graph: `runtime.use('native')`",
}


class EmptyModule(nn.Module):
    """A module without work, for the overhead of calling any module."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """Return `x`."""
        return x


def compiled_name(peer: str) -> str:
    """The name of a compiled layer of a peer."""
    return f"compiled {peer}"


def callees(case: Case, traced: bool = False) -> Iterator[tuple[str, Callable[[], Callee]]]:
    """All callees by name. Each is created by a call, which may raise for it alone. With `traced`,
    they include layers under `torch.compile`.

    Kernels come first: their arguments are recorded in the first call with a layout.
    """
    dtype, inputs = case.workload.dtype, case.rotation.turns[0].inputs
    layer = case.layer(case.module).to(dtype)
    parameters = tuple(layer.parameters())
    call = partial(layer, *inputs)

    def module() -> Callee:
        demand_kernels(case.optimised, case.module, case.device, call)
        return _callee_in_phases(case, call, parameters)

    def function() -> Callee:
        demand_kernels(case.optimised, case.module, case.device, call)
        return _callee_in_phases(case, function_behind(case.module, layer, inputs), parameters)

    def peer_callee(peer: Peer) -> Callee:
        layer = peer.layer(case.workload.shape, case.arguments)
        return by_itself(layer.to(peer.dtype or dtype))

    def by_itself(layer: nn.Module, target: Target = "auto") -> Callee:
        return _callee_in_phases(case, partial(layer, *inputs), tuple(layer.parameters()), target)

    def compiled(layer: nn.Module, target: Target = "auto") -> Callee:
        return by_itself(cast(nn.Module, torch.compile(layer.to(dtype))), target)

    def compiled_peer_callee(peer: Peer) -> Callee:
        return compiled(peer.layer(case.workload.shape, case.arguments))

    yield KERNELS, lambda: _kernel_callee(case, call, parameters)
    for peer in package_peers(case.library_norm, case.device.type):
        yield peer.package.name, partial(peer_callee, peer)
    yield OURS, module
    yield FUNCTION, function
    yield ON_TORCH, lambda: _callee_in_phases(case, call, parameters, "torch")
    yield EQUATIONS, lambda: by_itself(case.layer(module_of_equations(case.norm)).to(dtype))
    yield EMPTY, lambda: {FORWARD: _prepare_call(partial(EmptyModule(), *inputs), with_graph=False)}
    if traced:
        torch.compiler.reset()  # the number of compilations of a function is limited
        for peer in package_peers(case.library_norm, case.device.type):
            yield compiled_name(peer.package.name), partial(compiled_peer_callee, peer)
        yield COMPILED, lambda: compiled(case.layer(case.module))
        yield COMPILED_ON_KERNELS, lambda: compiled(case.layer(case.module), GRAPH_TARGET.name)


def _callee_in_phases(
    case: Case, call: Call, parameters: Sequence[Tensor], target: Target = "auto"
) -> Callee:
    """A call in every phase."""
    with use(target):
        operands = _operands(case, first_output(call()), parameters)

    def prepare(phase: Phase) -> PrepareCall:
        return _prepare_call(phase.timed(call, operands), phase.graph, target, operands.leaves)

    return {phase.name: prepare(phase) for phase in PHASES}


def _kernel_callee(case: Case, call: Call, parameters: Sequence[Tensor]) -> Callee:
    """The kernels of a call, forward alone and in both directions. Raises `RanOnTorch`."""
    with record_launches() as launches:
        outputs: list[Tensor] = []
        append_output = partial(_append_output, outputs, call)
        demand_kernels(case.optimised, case.module, case.device, append_output)
        forward = tuple(launches)
        operands = _operands(case, outputs[0], parameters)
        torch.autograd.grad(outputs[0], operands.leaves, operands.grad_output, allow_unused=True)
    if not forward or len(launches) == len(forward):
        raise RanOnTorch("no kernel was seen in each direction")
    return {
        FORWARD: _prepare_call(replay(forward), with_graph=False),
        BOTH: _prepare_call(replay(launches), with_graph=False),
    }


def _append_output(outputs: list[Tensor], call: Call) -> None:
    outputs.append(first_output(call()))


def _operands(case: Case, output: Tensor, parameters: Sequence[Tensor]) -> Operands:
    inputs, grad_output = case.rotation.turns[0], case.rotation.grad_outputs(output.detach())[0]
    return Operands((*inputs.leaves, *parameters), grad_output)


def _prepare_call(
    call: Call, with_graph: bool, target: Target = "auto", leaves: Sequence[Tensor] = ()
) -> PrepareCall:
    """A function that sets the modes of a call, untimed, and returns the call to time."""

    def prepare() -> Call:
        torch.set_grad_enabled(with_graph)
        use(target)
        for leaf in leaves:
            leaf.grad = None
        return call

    return prepare
