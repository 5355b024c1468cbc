"""Checks that a peer computes the same as a norm, so that their times can be compared."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.peers.peer import Peer, State
from metanorm.bench.rotation import Rotation
from metanorm.runtime import use
from metanorm.verify.cases import Example

TOLERANCE = 1e-8  # of results in float64, relative to their largest value
NOISE = 0.1  # added to all parameters: initial ones and zeros would hide mistakes
SEED = 0
Results = Mapping[str, Tensor]  # by what they are called


class Disagreement(Exception):
    """A peer does not compute the same as the norm."""


def demand_agreement(norm: Callable[..., nn.Module], peer: Peer, example: Example) -> None:
    """Raise `Disagreement` if a peer and the norm, on plain torch in float64, differ in the output,
    in gradients of inputs and parameters, or in the output in evaluation after that.

    `norm` is the class of a generated module. Raises `NotInstalled`.
    """
    inputs = Rotation(example, "cpu").turns[0]
    ours = norm(**example.arguments).double()
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(SEED)
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
    theirs = peer.layer(tuple(inputs.inputs[0].shape), example.arguments).double()
    parameters = {name: p.detach() for name, p in ours.named_parameters()}
    with torch.no_grad():
        for name, value in peer.parameters(parameters).items():
            theirs.get_parameter(name).copy_(value)
    with use("torch"):
        our_results = dict(
            _results(ours, inputs.inputs, inputs.leaves, peer.parameters, peer.in_eval)
        )
    their_results = dict(_results(theirs, inputs.inputs, inputs.leaves, _unchanged, peer.in_eval))
    if set(our_results) != set(their_results):
        raise Disagreement(
            f"only one of them has {', '.join(sorted(set(our_results) ^ set(their_results)))}"
        )
    for name, value in our_results.items():
        largest = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        distance = float((their_results[name] - value).abs().max()) if value.numel() else 0.0
        if not distance <= TOLERANCE * largest:  # nor where it is not a number
            raise Disagreement(f"does not compute the same: {name} differs by {distance:.2g}")


def _unchanged(state: State) -> State:
    return state


def _results(
    layer: nn.Module,
    inputs: tuple[Any, ...],
    leaves: tuple[Tensor, ...],
    rename: Callable[[State], State],
    in_eval: bool,
) -> Iterator[tuple[str, Tensor]]:
    names, parameters = [], []
    for name, parameter in layer.named_parameters():
        names.append(name)
        parameters.append(parameter)
    output = layer.train()(*inputs)
    yield "the output", output.detach()
    grad_output = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output).sin()
    gradients = torch.autograd.grad(output, (*leaves, *parameters), grad_output)
    for number, gradient in enumerate(gradients[: len(leaves)]):
        yield f"the gradient of input {number}", gradient
    parameter_gradients = rename(dict(zip(names, gradients[len(leaves) :])))
    for name, gradient in parameter_gradients.items():
        yield f"the gradient of {name}", gradient
    if in_eval:
        yield "the output in evaluation", layer.eval()(*inputs).detach()
