"""The results of the oracle for a call of a module."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from metanorm.ir.program import Program
from metanorm.oracle.call import Call, Result
from metanorm.oracle.draws import with_drawn_numbers
from metanorm.oracle.interpret import interpret
from metanorm.verify.cases import F64, Example, Setting
from metanorm.verify.seeds import seeded


@dataclass
class Reference:
    """The results of the oracle for a call. Outputs are functions of the leaves.

    `stated` has the gradients of inputs that the spec states, for `combined_loss`, and
    `later_updates` what the backward pass stores.
    """

    outputs: dict[str, Tensor]
    updates: dict[str, Tensor]
    program: Program
    leaves: dict[str, Tensor]  # inputs and parameters
    stated: Mapping[str, Tensor] = field(default_factory=dict)
    later_updates: Mapping[str, Tensor] = field(default_factory=dict)

    def gradients(self, names: Sequence[str]) -> list[Tensor]:
        """The gradients of `combined_loss` by the leaves of these names."""
        names_derived = [n for n in names if n not in self.stated]
        by_name = {**dict(zip(names_derived, self.derived(names_derived))), **self.stated}
        return [by_name[name] for name in names]

    def derived(self, names: Sequence[str]) -> list[Tensor]:
        """The same gradients as they are derived, whatever the spec states."""
        loss = combined_loss(self.outputs, self.program)
        leaves = [self.leaves[n] for n in names]
        if not loss.requires_grad or not leaves:
            return [torch.zeros_like(x) for x in leaves]
        return list(torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True))


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
    call = Call(
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
    )
    first = inputs[program.inputs[0].name]
    assert first is not None
    with seeded(first.device):  # as the module was
        call = with_drawn_numbers(program, call, first)
    result = interpret(program, call)
    stated, later_updates = _stated(program, call, result)
    return Reference(
        result.outputs, result.updates, program, {**leaves, **params}, stated, later_updates
    )


def _stated(
    program: Program, call: Call, result: Result
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The gradients that a norm states, and what its backward pass stores.

    Empty in evaluation, and for a first input without elements.
    """
    backward, first = program.backward, call.inputs[program.inputs[0].name]
    if backward is None or not call.training or first is None or first.numel() == 0:
        return {}, {}
    weights = loss_weights(result.outputs, program)
    inputs = {
        **call.inputs,
        **{name: weights[o] for name, (o, _) in zip(backward.arriving, program.outputs)},
        **{name: call.buffers[buffer] for buffer, name in backward.saved},
    }
    buffers = {**call.buffers, **result.updates}
    with torch.no_grad():
        later = interpret(backward.program, replace(call, inputs=inputs, buffers=buffers))
    stated = {n: g for n, g in later.outputs.items() if call.inputs[n] is not None}
    return stated, later.updates


def combined_loss(outputs: Mapping[str, Tensor], program: Program) -> Tensor:
    """A random linear combination of all outputs, in float64.

    Its weights are the gradients of the outputs. They are exact in bfloat16, or in the float8 type
    of an output.
    """
    loss = torch.zeros((), dtype=F64)
    for name, weights in loss_weights(outputs, program).items():
        output = outputs[name]
        loss = loss + (output.to(F64) * weights.to(output.device)).sum().cpu()
    return loss


def loss_weights(outputs: Mapping[str, Tensor], program: Program) -> dict[str, Tensor]:
    """The weights of `combined_loss` for each output."""
    generator = torch.Generator().manual_seed(2)
    dtypes = {name: dtype.name for name, dtype in program.output_dtypes if not dtype.like}
    weights_by_output = {}
    for name, output in outputs.items():
        weights = torch.randn(output.shape, generator=generator, dtype=F64).bfloat16()
        if dtypes.get(name, "").startswith("float8"):
            weights = weights.to(getattr(torch, dtypes[name])).bfloat16()
        weights_by_output[name] = weights.to(F64)
    return weights_by_output


def _on_cpu(value: object) -> object:
    """An argument of a constructor; a matrix is copied from the device of the module."""
    return value.cpu() if isinstance(value, Tensor) else value


def _float64_leaf(x: Tensor) -> Tensor:
    """The same numbers on the CPU in float64, as a leaf of a new graph."""
    on_cpu = x.detach().cpu()
    return on_cpu.to(F64).clone().requires_grad_() if x.is_floating_point() else on_cpu
