"""The initial state of norms whose parameters and buffers have the lengths of an input."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import Tensor, nn

from metanorm.ir.program import Program


def initialize_state(
    program: Program, norm: nn.Module, inputs: Mapping[str, Tensor | None]
) -> None:
    """Make the parameters and buffers of a norm for weights, gradients or steps from these inputs.

    Torch does that when it puts a parametrization on a weight, and a first call does it for
    gradients and steps. The constructors of other norms make theirs: nothing is done.
    """
    for_weight: Callable[..., object] | None = getattr(norm, "right_inverse", None)
    for_first_call: Callable[..., object] | None = getattr(norm, "begin_state", None)
    if for_weight is not None:
        for_weight(inputs[program.inputs[0].name])
    elif for_first_call is not None:
        for_first_call(*(inputs[decl.name] for decl in program.inputs))
