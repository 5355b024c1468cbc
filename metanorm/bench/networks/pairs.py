"""Pairs of networks with equal weights: with generated norms, and with layers of others."""

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
# Tolerances, relative to the norm of a vector: of all results in float64, and of outputs in
# float32, in which networks are timed. There rounding may switch a ReLU, which changes gradients.
TOLERANCE, FLOAT32_TOLERANCE = 1e-8, 1e-3
ROUNDING_OF_ZERO = (
    1e-12  # of the longest vector: the size of a gradient that is zero in exact arithmetic
)
Results = Mapping[str, Tensor]  # by description
LEARNING_RATE = 1e-3
NOISE = 0.1  # added to all parameters: initial ones and zeros would hide mistakes


class Disagreement(Exception):
    """Two networks do not compute the same, so that their times cannot be compared."""


@dataclass(frozen=True)
class Pair:
    """Two networks with the same weights, and their common batch."""

    ours: nn.Module
    theirs: nn.Module
    batch: Batch


def make_pair(row: Row, generated: Callable[..., nn.Module], peer: Peer, device: str) -> Pair:
    """Build both networks of a row on a device. Raises `NotInstalled`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        ours = row.network(_norm_factory(row.kind, lambda _, arguments: generated(**arguments)))
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
    """Raise `Disagreement` if outputs or gradients of a training step differ, or outputs in
    evaluation after it. The networks are not modified."""
    _require_close(*_both_results(_outputs_and_gradients, networks, torch.float64), TOLERANCE)
    _require_close(*_both_results(_outputs, networks, torch.float32), FLOAT32_TOLERANCE)


def _both_results(
    results: Callable[[nn.Module, Batch], Results], networks: Pair, dtype: torch.dtype
) -> tuple[Results, Results]:
    ours, theirs = (copy.deepcopy(n).to(dtype) for n in (networks.ours, networks.theirs))
    batch = networks.batch.to(dtype)
    return results(ours, batch), results(theirs, batch)


def _require_close(ours: Results, theirs: Results, tolerance: float) -> None:
    rounding = ROUNDING_OF_ZERO * max(float(value.norm()) for value in theirs.values())
    for name, value in theirs.items():
        distance = float((ours[name] - value).norm())
        if (
            not distance <= tolerance * float(value.norm()) + rounding
        ):  # nor where it is not a number
            raise Disagreement(f"the networks do not compute the same: {name} differs")


def _outputs_and_gradients(network: nn.Module, batch: Batch) -> Results:
    network.train()
    names, parameters = zip(*network.named_parameters())
    gradients = torch.autograd.grad(_loss(network(*batch.inputs), batch), parameters)
    results = {f"the gradient of {name}": g for name, g in zip(names, gradients)}
    return {**results, **_outputs(network, batch)}


@torch.no_grad()
def _outputs(network: nn.Module, batch: Batch) -> Results:
    """The outputs in training, and in evaluation after that."""
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
