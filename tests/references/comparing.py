"""Tensors of a norm beside those of its reference: outputs, gradients, and routes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.explain.kernels import execution_status
from metanorm.frontend import check
from metanorm.ir.program import Program
from metanorm.passes.pipeline import optimize
from metanorm.workspace import STDIN, load


def leaf_of(tensor: Tensor) -> Tensor:
    """A copy, which gradients of numbers reach."""
    leaf = tensor.detach().clone()
    return leaf.requires_grad_() if leaf.is_floating_point() else leaf


def outputs_of(result: Any) -> tuple[Tensor, ...]:
    """The outputs of a call, of which there may be one."""
    return tuple(result) if isinstance(result, tuple) else (result,)


def gradients(
    outputs: Sequence[Tensor], leaves: Sequence[Tensor], cotangents: Sequence[Tensor]
) -> list[Tensor]:
    """The gradient of each leaf: zeros where no output depends on it."""
    pairs = [(o, c) for o, c in zip(outputs, cotangents) if o.requires_grad]
    if not pairs:
        return [torch.zeros_like(leaf) for leaf in leaves]
    by_leaf = torch.autograd.grad(
        [o for o, _ in pairs], leaves, [c for _, c in pairs], allow_unused=True
    )
    return [torch.zeros_like(t) if g is None else g for g, t in zip(by_leaf, leaves)]


def assert_close_with_gradients(actual: Tensor, right: Tensor, *operands: Tensor) -> None:
    """Compare values and the gradients of operands, all of which both have to read."""
    direction = torch.randn_like(right)
    torch.testing.assert_close(actual, right)
    torch.testing.assert_close(
        torch.autograd.grad(actual, operands, direction),
        torch.autograd.grad(right, operands, direction),
    )


def programs_of(text: str) -> dict[str, Program]:
    """The programs of the norms of a text, by name."""
    specs = load([STDIN], stdin=text.encode())
    norms = check(specs.sources, specs.roots).norms[specs.roots[0]]
    return {norm.program.name: norm.program for norm in norms}


def route_of(target: str, program: Program, torch_only: str) -> str:
    """The target to use for a norm that has no kernels, for the reason that the compiler gives."""
    assert execution_status(optimize(program)) == f"torch: {torch_only}"
    return "auto" if target == "native" else target
