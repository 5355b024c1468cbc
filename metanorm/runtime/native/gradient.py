"""The kernels of a norm behind autograd."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from metanorm.runtime.native.build import CannotBuild
from metanorm.runtime.native.calls import Kernels, Prepared, allocated, run
from metanorm.runtime.native.fit import served
from metanorm.runtime.native.layout import Unfit
from metanorm.runtime.native.warning import warn_once

Outputs = tuple[Tensor, ...]


class Call:
    """One call of a norm: its arguments, by name, without those that autograd keeps."""

    def __init__(
        self, kernels: Kernels, function: Callable[..., Any], arm: str, names: Sequence[str],
        others: dict[str, Any], extra: dict[str, Any],
    ) -> None:  # fmt: skip
        self.kernels = kernels
        self.function = function
        self.arm = arm
        self.names = names  # of the tensors
        self.others = others  # arguments that are no tensors
        self.extra = extra  # what kernels need beside the arguments

    def values(self, tensors: Sequence[Tensor | None]) -> dict[str, Any]:
        """All that a kernel is given."""
        return {**self.others, **self.extra, **dict(zip(self.names, tensors))}

    def forward(
        self, prepared: Prepared, values: dict[str, Any], keep: bool
    ) -> tuple[Outputs, Tensor | None]:
        """The outputs, and what the backward kernel needs."""
        x = values[self.names[0]]
        # The small one first: it would break up the room that the last large result has left.
        kept = torch.empty(prepared.kept, dtype=torch.uint8) if prepared.kept_at else None
        results = allocated(prepared, values, x)
        run(prepared, values, results, kept)
        return tuple(results.values()), kept if keep else None

    def again(self, tensors: Sequence[Tensor | None]) -> Any:
        """The outputs by the torch target, with nothing updated, for gradients of gradients."""
        values = {**self.others, **dict(zip(self.names, tensors))}
        table = self.kernels.table
        for name in table.buffers:
            if name in table.tracked and self.arm != "eval":
                values[name] = None
            elif values.get(name) is not None:
                values[name] = values[name].clone()
        return self.function(**values)


class Normalized(torch.autograd.Function):
    """Forward and backward kernel as one differentiable function."""

    @staticmethod
    def forward(ctx: Any, call: Call, prepared: Prepared, *tensors: Tensor | None) -> Any:
        """The outputs of the norm."""
        saved = list(tensors)
        table, read = call.kernels.table, call.kernels.buffers_read[call.arm]
        for position, name in enumerate(call.names):
            if name in table.buffers and (buffer := tensors[position]) is not None:
                # As it is now: this call, or the next step of training, changes it.
                unused = call.arm != "eval" and name in table.tracked and name not in read
                saved[position] = None if unused else buffer.clone()
        outputs, kept = call.forward(prepared, call.values(tensors), keep=True)
        ctx.call, ctx.prepared = call, prepared
        ctx.save_for_backward(*saved, kept)
        return outputs if len(outputs) > 1 else outputs[0]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        """The gradients of all tensors."""
        call: Call = ctx.call
        *tensors, kept = ctx.saved_tensors
        needed = ctx.needs_input_grad[2:]
        if torch.is_grad_enabled() or not all(served(g) for g in gradients):
            return (None, None, *_differentiable(call, tensors, needed, gradients))
        values = call.values(tensors)
        names = [f"d.{name}" for name, _ in ctx.prepared.results]
        narrow = [shape is not None for _, shape in ctx.prepared.results]
        gradients = tuple(g.contiguous() if n else g for g, n in zip(gradients, narrow))
        values.update(zip(names, gradients))
        layout = tuple((g.stride(), g.dtype) for g in gradients)
        prepared = ctx.prepared.backward.get(layout)
        if prepared is None:
            try:
                prepared = call.kernels.prepared(call.arm, "backward", values)
                ctx.prepared.backward[layout] = prepared
            except Unfit:  # it lies in pieces; torch's layers would copy it, too
                gradients = tuple(g.contiguous() for g in gradients)
                values.update(zip(names, gradients))
                prepared = call.kernels.prepared(call.arm, "backward", values)
            except CannotBuild as problem:
                warn_once(f"{problem.reason}; {problem.remedy}")
                return (None, None, *_differentiable(call, tensors, needed, gradients))
        wanted = [f"d.{name}" if need else "" for name, need in zip(call.names, needed)]
        results = allocated(prepared, values, tensors[0], wanted)
        run(prepared, values, results, kept)
        return (None, None, *map(results.get, wanted))


def _differentiable(
    call: Call,
    tensors: Sequence[Tensor | None],
    needed: Sequence[bool],
    gradients: Sequence[Tensor],
) -> list[Tensor | None]:
    """The gradients as functions of the tensors, which can be differentiated again."""
    with torch.enable_grad():
        outputs = call.again(tensors)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    wanted = [t for t, need in zip(tensors, needed) if need and t is not None]
    pairs = [(o, g) for o, g in zip(outputs, gradients) if o.requires_grad]
    found = iter(
        torch.autograd.grad(
            [o for o, _ in pairs], wanted, [g for _, g in pairs],
            create_graph=torch.is_grad_enabled(), allow_unused=True,
        )
    )  # fmt: skip
    return [next(found) if need and t is not None else None for t, need in zip(tensors, needed)]
