"""What norms for activations, weights, gradients and losses look like where they differ."""

from __future__ import annotations

from dataclasses import dataclass

from metanorm.ir.nodes import Program


@dataclass(frozen=True)
class Kind:
    """The base class, what a call gives, and how the class is used; `{}` is filled in."""

    base: str
    gives: str
    usage: str = ""


KINDS = {
    "activation": Kind("nn.Module", "Normalize `{input}`."),
    "weight": Kind(
        "nn.Module",
        "The weight that a layer computes with, for the one that is learned.",
        "A parametrization: `register_parametrization(layer, 'weight', {name}(...))` of "
        "`torch.nn.utils.parametrize` puts it on a layer, `runtime.on_weights(model, {name})` on "
        "those of a model.",
    ),
    "gradient": Kind(
        "runtime.GradientNorm",
        "The gradient that is learned from, for the one that arrives.",
        "`{name}(...).attach(to)` has it applied to the gradients of a parameter, a model or an "
        "optimizer, but for those with fewer dimensions than {fewest}.",
    ),
    "loss": Kind(
        "nn.Module",
        "The loss of `{input}`, a scalar.",
        "`runtime.collect(model, {name}(...), layers)` has it taken of the outputs of layers.",
    ),
}
MADE_LATER = "Its parameters get their lengths and first values from the weight that it is put on."


def kind_of(program: Program) -> Kind:
    """The kind of a norm, filled in for it."""
    kind = KINDS[program.target]
    words = {
        "name": program.name,
        "input": program.inputs[0].name,
        "fewest": str(fewest_dims(program)),
    }
    usage = kind.usage
    if program.target == "weight" and (program.params or program.buffers):
        usage += f" {MADE_LATER}"
    return Kind(kind.base, kind.gives.format(**words), usage.format(**words))


def fewest_dims(program: Program) -> int:
    """How many dimensions the first input has where no group of axes is empty.

    With fewer, as the gradient of a bias has, nothing is left to pool over.
    """
    return len(program.inputs[0].dims)
