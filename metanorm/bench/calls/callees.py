"""What is called: the layer of others, the generated module, and what its calls consist of."""

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
from metanorm.runtime.demands import Choice

Callee = Mapping[str, PrepareCall]  # by the name of each phase that it has
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
    """What calling any module costs."""

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        """`x` itself."""
        return x


def compiled_name(peer: str) -> str:
    """What the layer of others is called where it is compiled."""
    return f"compiled {peer}"


def callees(case: Case, traced: bool = False) -> Iterator[tuple[str, Callable[[], Callee]]]:
    """By name; each is made by a call, which may fail for it alone. With `traced`, layers under
    `torch.compile` are among them.

    Kernels come first: what they are called with is seen in the first call with a layout.
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

    def of_others(peer: Peer) -> Callee:
        layer = peer.layer(case.workload.shape, case.arguments)
        return by_itself(layer.to(peer.dtype or dtype))

    def by_itself(layer: nn.Module, target: Choice = "auto") -> Callee:
        return _callee_in_phases(case, partial(layer, *inputs), tuple(layer.parameters()), target)

    def compiled(layer: nn.Module, target: Choice = "auto") -> Callee:
        return by_itself(cast(nn.Module, torch.compile(layer.to(dtype))), target)

    def of_others_compiled(peer: Peer) -> Callee:
        return compiled(peer.layer(case.workload.shape, case.arguments))

    yield KERNELS, lambda: _kernel_callee(case, call, parameters)
    for peer in package_peers(case.known, case.device.type):
        yield peer.package.name, partial(of_others, peer)
    yield OURS, module
    yield FUNCTION, function
    yield ON_TORCH, lambda: _callee_in_phases(case, call, parameters, "torch")
    yield EQUATIONS, lambda: by_itself(case.layer(module_of_equations(case.norm)).to(dtype))
    yield EMPTY, lambda: {FORWARD: _prepare_call(partial(EmptyModule(), *inputs), graph=False)}
    if traced:
        torch.compiler.reset()  # there is a limit to what is compiled of one function
        for peer in package_peers(case.known, case.device.type):
            yield compiled_name(peer.package.name), partial(of_others_compiled, peer)
        yield COMPILED, lambda: compiled(case.layer(case.module))
        yield COMPILED_ON_KERNELS, lambda: compiled(case.layer(case.module), "native")


def _callee_in_phases(
    case: Case, call: Call, parameters: Sequence[Tensor], target: Choice = "auto"
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
        keep = partial(_append_output, outputs, call)
        demand_kernels(case.optimised, case.module, case.device, keep)
        forward = tuple(launches)
        operands = _operands(case, outputs[0], parameters)
        torch.autograd.grad(outputs[0], operands.leaves, operands.slope, allow_unused=True)
    if not forward or len(launches) == len(forward):
        raise RanOnTorch("no kernel was seen in each direction")
    return {
        FORWARD: _prepare_call(replay(forward), graph=False),
        BOTH: _prepare_call(replay(launches), graph=False),
    }


def _append_output(outputs: list[Tensor], call: Call) -> None:
    outputs.append(first_output(call()))


def _operands(case: Case, output: Tensor, parameters: Sequence[Tensor]) -> Operands:
    (turn, *_), (slope, *_) = case.rotation.turns, case.rotation.slopes(output.detach())
    return Operands((*turn.leaves, *parameters), slope)


def _prepare_call(
    timed: Call, graph: bool, target: Choice = "auto", leaves: Sequence[Tensor] = ()
) -> PrepareCall:
    """A call in its settings. Those are set untimed, and hold until the next call has others."""

    def fresh() -> Call:
        torch.set_grad_enabled(graph)
        use(target)
        for leaf in leaves:
            leaf.grad = None
        return timed

    return fresh
