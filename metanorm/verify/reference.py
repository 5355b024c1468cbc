"""The results of the oracle for a call of a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from metanorm.ir.program import Program
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.verify.cases import F64, Example, Setting


@dataclass
class Reference:
    """The results of the oracle for a call. Outputs are functions of the leaves."""

    outputs: dict[str, Tensor]
    updates: dict[str, Tensor]
    program: Program
    leaves: dict[str, Tensor]  # inputs and parameters

    def gradients(self, names: Sequence[str]) -> list[Tensor]:
        """The gradients of `combined_loss` by the leaves of these names."""
        loss = combined_loss(self.outputs, self.program)
        leaves = [self.leaves[n] for n in names]
        return list(
            torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)
            if loss.requires_grad
            else (torch.zeros_like(x) for x in leaves)
        )


def reference(
    program: Program,
    norm: nn.Module,
    inputs: Mapping[str, Tensor | None],
    buffers: Mapping[str, Tensor],
    example: Example,
    setting: Setting,
    rounded: Callable[[Tensor], Tensor] | None = None,
) -> Reference:
    """The results of the oracle for a call of a module, whose buffers were `buffers` before it.

    `rounded`, if given, is applied to each intermediate value.
    """
    leaves = {n: _float64_leaf(x) for n, x in inputs.items() if x is not None}
    params = {n: _float64_leaf(p) for n, p in norm.named_parameters()}
    counter = getattr(norm, "num_batches_tracked", None)
    result = interpret(
        program,
        Call(
            inputs={n: leaves.get(n) for n in inputs},
            params=params,
            buffers=buffers,
            hypers={a.name: _on_cpu(getattr(norm, a.name)) for a in program.arguments},
            groups=example.groups,
            training=setting.training,
            keeps=counter is not None,
            batches=int(counter) if counter is not None else 1,
            epsilon=torch.finfo(torch.promote_types(setting.dtype, torch.float32)).eps,
            rounded=rounded,
            dtypes=dict.fromkeys((*leaves, *params), setting.dtype),
        ),
    )
    return Reference(result.outputs, result.updates, program, {**leaves, **params})


def combined_loss(outputs: Mapping[str, Tensor], program: Program) -> Tensor:
    """A random linear combination of all outputs, in float64.

    Its weights are the gradients of the outputs. They are exact in bfloat16, or in the float8 type
    of an output.
    """
    generator = torch.Generator().manual_seed(2)
    loss = torch.zeros((), dtype=F64)
    dtypes = {name: dtype.name for name, dtype in program.output_dtypes if not dtype.like}
    for name, output in outputs.items():
        weights = torch.randn(output.shape, generator=generator, dtype=F64).bfloat16()
        if dtypes.get(name, "").startswith("float8"):
            weights = weights.to(getattr(torch, dtypes[name])).bfloat16()
        loss = loss + (output.to(F64) * weights.to(output.device)).sum().cpu()
    return loss


def _on_cpu(value: object) -> object:
    """An argument of a constructor; a matrix is copied from the device of the module."""
    return value.cpu() if isinstance(value, Tensor) else value


def _float64_leaf(x: Tensor) -> Tensor:
    """The same numbers on the CPU in float64, as a leaf of a new graph."""
    on_cpu = x.detach().cpu()
    return on_cpu.to(F64).clone().requires_grad_() if x.is_floating_point() else on_cpu
