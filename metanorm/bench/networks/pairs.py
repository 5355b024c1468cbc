"""A network twice, with generated norms and with the layers of others, from the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from metanorm.bench.networks.rows import Batch, Kind, Norm, Row
from metanorm.bench.peers import Peer
from metanorm.verify.layouts import moved

SEED = 0
TOLERANCE = 1e-3  # of the length of a vector, in float32
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


def pair(row: Row, generated: Callable[..., nn.Module], peer: Peer, device: str) -> Pair:
    """Both networks of a row on a device. Raises `NotInstalled`."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(SEED)
        ours = row.network(_made(row.kind, lambda _, given: generated(**given)))
        theirs = row.network(_made(row.kind, peer.layer))
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=NOISE)
        batch = row.batch()
    theirs.load_state_dict(ours.state_dict())
    inputs = tuple(moved(x, device) if isinstance(x, Tensor) else x for x in batch.inputs)
    on_device = Batch(inputs, moved(batch.target, device))
    return Pair(ours.to(device), theirs.to(device), on_device)


def _made(kind: Kind, layer: Callable[..., nn.Module]) -> Norm:
    return lambda length: kind.wrap(layer(kind.shape(length), kind.arguments(length)))


def demand_agreement(networks: Pair) -> None:
    """Raise `Disagreement` where outputs or gradients of one training step are not the same, or
    the outputs in evaluation that follow it."""
    found = [_results(network, networks.batch) for network in (networks.ours, networks.theirs)]
    scale = max(float(theirs.norm()) for theirs in found[1].values())
    for name, theirs in found[1].items():
        # A gradient that is zero but for rounding, such as that of a bias before a norm, is
        # measured by the others.
        allowed = TOLERANCE * max(float(theirs.norm()), TOLERANCE * scale)
        if not float((found[0][name] - theirs).norm()) <= allowed:
            raise Disagreement(f"the networks do not compute the same: {name} differs")


def _results(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """What a network computes, by name."""
    network.train()
    output = network(*batch.inputs)
    names, parameters = zip(*network.named_parameters())
    gradients = torch.autograd.grad(_loss(output, batch), parameters)
    network.eval()
    with torch.no_grad():
        evaluated = network(*batch.inputs)
    found = {f"the gradient of {name}": g for name, g in zip(names, gradients)}
    return {"the output": output.detach(), "the output in evaluation": evaluated, **found}


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
