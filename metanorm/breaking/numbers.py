"""Two versions of a norm, run on the same numbers by the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from metanorm.breaking.change import Change
from metanorm.ir.fingerprint import fingerprint
from metanorm.ir.nodes import Program
from metanorm.oracle.call import Call
from metanorm.oracle.interpret import interpret
from metanorm.passes.pipeline import optimize
from metanorm.show.example import CannotDraw, example

TOLERANCE = 1e-9  # of float64, relative to the largest number
SEED = 0
MODE_TEXTS = {True: "in training", False: "in evaluation"}


def number_changes(old: Program, new: Program) -> Iterator[Change]:
    """What differs in results, gradients and running statistics on a small example.

    Versions that are the same program but for names are not run.
    """
    if fingerprint(optimize(old)) == fingerprint(optimize(new)):
        return
    try:
        small_old, call = example(old)
        small_new, other = example(new)
    except CannotDraw as reason:
        text = f"the equations differ, and there is no small example to compare: {reason}"
        yield Change(new.name, "numbers", text)
        return
    if _call_signature(call) != _call_signature(other):
        return  # what the interface tells already
    for training, mode in MODE_TEXTS.items():
        before = _results(small_old, replace(call, training=training))
        after = _results(small_new, replace(call, training=training))
        for what in before:
            text = _difference(what, before[what], after.get(what))
            if text:
                yield Change(new.name, "numbers", f"{text} {mode}")


def _call_signature(call: Call) -> list[object]:
    """What a call has to give: names, and the shapes of tensors."""
    tensors = (call.inputs, call.params, call.buffers)
    shapes = [
        {name: None if x is None else x.shape for name, x in some.items()} for some in tensors
    ]
    return [*shapes, set(call.hypers)]


def _results(program: Program, call: Call) -> Mapping[str, Tensor | None]:
    """The results of a call by what they are: outputs by place, gradients, running statistics."""
    torch.manual_seed(SEED)
    leaves = {**_leaves(call.inputs), **_leaves(call.params)}
    inputs = {name: leaves.get(name, x) for name, x in call.inputs.items()}
    params = {name: leaves.get(name, x) for name, x in call.params.items()}
    result = interpret(program, replace(call, inputs=inputs, params=params))
    found: dict[str, Tensor | None] = {}
    total = torch.zeros((), dtype=torch.float64)
    for place, output in enumerate(result.outputs.values()):
        found["the result" if not place else f"output {place + 1}"] = output.detach()
        slope = torch.cos(torch.arange(output.numel(), dtype=torch.float64)).reshape(output.shape)
        total = total + (output * slope).sum()
    if total.requires_grad:
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True)
        for name, grad in zip(leaves, grads):
            found[f"the gradient of `{name}`"] = grad
    for name, value in result.updates.items():
        found[f"`{name}` after a call"] = value.detach()
    return found


def _leaves(given: Mapping[str, Tensor | None]) -> dict[str, Tensor]:
    return {
        name: x.detach().clone().requires_grad_()
        for name, x in given.items()
        if x is not None and x.is_floating_point()
    }


def _difference(what: str, before: Tensor | None, after: Tensor | None) -> str:
    """How much one value differs; empty where it does not."""
    if before is None and after is None:
        return ""
    if before is None or after is None:
        x = before if before is not None else after
        assert x is not None
        before, after = (torch.zeros_like(x) if t is None else t for t in (before, after))
    if before.shape != after.shape:
        return f"{what} has another shape"
    apart = (before - after).abs().nan_to_num(torch.inf)
    apart[(before == after) | (before.isnan() & after.isnan())] = 0
    largest = float(apart.max()) if apart.numel() else 0.0
    scale = float(before.nan_to_num(0, 0, 0).abs().max()) if before.numel() else 0.0
    if largest <= TOLERANCE * max(1.0, scale):
        return ""
    return f"{what} differs by up to {largest:.2g}, where numbers are up to {scale:.2g},"
