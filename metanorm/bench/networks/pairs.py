"""A network twice, with generated norms and with the layers of others, from the same weights."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.networks.rows import Batch, Norm, NormKind, Row
from metanorm.bench.peers.peer import Peer

SEED = 0
# How far results may be apart, by the length of a vector: in float64 all of them, in float32, in
# which networks are timed, the outputs. There a nonlinearity may take its other side by rounding,
# and the gradients with it.
TOLERANCE, FLOAT32_TOLERANCE = 1e-8, 1e-3
ROUNDING_OF_ZERO = (
    1e-12  # of the longest one: what a gradient may be that is zero in exact arithmetic
)
Results = Mapping[str, Tensor]  # by what they are called
LEARNING_RATE = 1e-3
NOISE = 0.1  # in all parameters: ones and zeros of a norm hide what goes wrong with them


class Disagreement(Exception):
    """Two networks that do not compute the same; times of them mean nothing."""


@dataclass(frozen=True)
class Pair:
    """Two networks with the same weights, and the batch that both are given."""

    ours: nn.Module
    theirs: nn.Module
    batch: Batch


def make_pair(row: Row, generated: Callable[..., nn.Module], peer: Peer, device: str) -> Pair:
    """Both networks of a row on a device. Raises `NotInstalled`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        ours = row.network(_norm_factory(row.kind, lambda _, given: generated(**given)))
        theirs = row.network(_norm_factory(row.kind, peer.layer))
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=NOISE)
        batch = row.batch()
    theirs.load_state_dict(ours.state_dict())
    return Pair(ours.to(device), theirs.to(device), batch.on(device))


def _norm_factory(kind: NormKind, layer: Callable[..., nn.Module]) -> Norm:
    return lambda length: kind.wrap(layer(kind.shape(length), kind.arguments(length)))


def demand_agreement(networks: Pair) -> None:
    """Raise `Disagreement` where outputs or gradients of one training step are not the same, or
    the outputs in evaluation that follow it. The networks stay as they are."""
    _demand_close(*_both_results(_outputs_and_gradients, networks, torch.float64), TOLERANCE)
    _demand_close(*_both_results(_outputs, networks, torch.float32), FLOAT32_TOLERANCE)


def _both_results(
    results: Callable[[nn.Module, Batch], Results], networks: Pair, dtype: torch.dtype
) -> tuple[Results, Results]:
    ours, theirs = (copy.deepcopy(n).to(dtype) for n in (networks.ours, networks.theirs))
    batch = networks.batch.to(dtype)
    return results(ours, batch), results(theirs, batch)


def _demand_close(ours: Results, theirs: Results, tolerance: float) -> None:
    rounding = ROUNDING_OF_ZERO * max(float(value.norm()) for value in theirs.values())
    for name, value in theirs.items():
        apart = float((ours[name] - value).norm())
        if not apart <= tolerance * float(value.norm()) + rounding:  # nor where it is not a number
            raise Disagreement(f"the networks do not compute the same: {name} differs")


def _outputs_and_gradients(network: nn.Module, batch: Batch) -> Results:
    network.train()
    names, parameters = zip(*network.named_parameters())
    gradients = torch.autograd.grad(_loss(network(*batch.inputs), batch), parameters)
    found = {f"the gradient of {name}": g for name, g in zip(names, gradients)}
    return {**found, **_outputs(network, batch)}


@torch.no_grad()
def _outputs(network: nn.Module, batch: Batch) -> Results:
    """In training, and in the evaluation that follows it."""
    trained = network.train()(*batch.inputs)
    return {"the output": trained, "the output in evaluation": network.eval()(*batch.inputs)}


def training_step(network: nn.Module, batch: Batch) -> Callable[[], Any]:
    """Forward, loss, backward, and a step of SGD."""
    network.train()
    optimizer = torch.optim.SGD(network.parameters(), LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        _loss(network(*batch.inputs), batch).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def inference_step(network: nn.Module, batch: Batch) -> Callable[[], Any]:
    """Forward in evaluation mode, without a graph."""
    network.eval()

    def step() -> None:
        with torch.no_grad():
            network(*batch.inputs)

    return step


def _loss(output: Tensor, batch: Batch) -> Tensor:
    return functional.cross_entropy(output.flatten(0, -2), batch.target.flatten())
