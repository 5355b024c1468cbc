"""How the state of a norm begins that gets its lengths from a weight, a gradient or a step."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from metanorm.ir.program import Program


def begin(program: Program, norm: nn.Module, inputs: Mapping[str, Tensor | None]) -> None:
    """Give the module of a norm its state, as torch or its first call would; others have theirs."""
    if hasattr(norm, "right_inverse"):
        norm.right_inverse(inputs[program.inputs[0].name])  # type: ignore[operator]
    elif hasattr(norm, "begin_state"):
        norm.begin_state(*(inputs[decl.name] for decl in program.inputs))  # type: ignore[operator]
