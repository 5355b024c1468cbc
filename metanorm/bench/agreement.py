"""Whether a peer computes what the norm computes; times of two different things mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.bench.peers.peer import Peer, State
from metanorm.bench.rotation import Rotation
from metanorm.runtime import use
from metanorm.verify.cases import Example

TOLERANCE = 1e-8  # how far results in float64 may be apart, by their largest value
NOISE = 0.1  # in all parameters: ones and zeros of a norm hide what goes wrong with them
SEED = 0
Results = Mapping[str, Tensor]  # by what they are called


class Disagreement(Exception):
    """A peer that does not compute the same."""


def demand_agreement(norm: Callable[..., nn.Module], peer: Peer, built: Example) -> None:
    """Raise `Disagreement` where a peer and the norm on torch differ for some arguments in float64:
    in the output, in the gradients of inputs and parameters, or in evaluation after that.

    `norm` is the class of a generated module. Raises `NotInstalled`.
    """
    inputs = Rotation(built, "cpu").turns[0]
    ours = norm(**built.arguments).double()
    with torch.random.fork_rng(devices=()), torch.no_grad():
        torch.manual_seed(SEED)
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=NOISE)
    theirs = peer.layer(tuple(inputs.inputs[0].shape), built.arguments).double()
    own = {name: p.detach() for name, p in ours.named_parameters()}
    with torch.no_grad():
        for name, value in peer.parameters(own).items():
            theirs.get_parameter(name).copy_(value)
    with use("torch"):
        first = dict(_results(ours, inputs.inputs, inputs.leaves, peer.parameters, peer.in_eval))
    second = dict(_results(theirs, inputs.inputs, inputs.leaves, _unchanged, peer.in_eval))
    if set(first) != set(second):
        raise Disagreement(f"only one of them has {', '.join(sorted(set(first) ^ set(second)))}")
    for name, value in first.items():
        largest = max(1.0, float(value.abs().max())) if value.numel() else 1.0
        apart = float((second[name] - value).abs().max()) if value.numel() else 0.0
        if not apart <= TOLERANCE * largest:  # nor where it is not a number
            raise Disagreement(f"does not compute the same: {name} differs by {apart:.2g}")


def _unchanged(state: State) -> State:
    return state


def _results(
    layer: nn.Module,
    inputs: tuple[Any, ...],
    leaves: tuple[Tensor, ...],
    named: Callable[[State], State],
    in_eval: bool,
) -> Iterator[tuple[str, Tensor]]:
    names, parameters = [], []
    for name, parameter in layer.named_parameters():
        names.append(name)
        parameters.append(parameter)
    output = layer.train()(*inputs)
    yield "the output", output.detach()
    slope = torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output).sin()
    gradients = torch.autograd.grad(output, (*leaves, *parameters), slope)
    for number, gradient in enumerate(gradients[: len(leaves)]):
        yield f"the gradient of input {number}", gradient
    of_parameters = named(dict(zip(names, gradients[len(leaves) :])))
    for name, gradient in of_parameters.items():
        yield f"the gradient of {name}", gradient
    if in_eval:
        yield "the output in evaluation", layer.eval()(*inputs).detach()
