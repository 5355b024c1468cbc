"""How far stated gradients are from the derived ones. That they differ is no fault."""

from __future__ import annotations

from types import ModuleType

import torch

from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import make_module
from metanorm.verify.reference import reference

EQUAL = 1e-9  # of the length of the derived gradient


def stated_gradients(program: Program, module: ModuleType) -> tuple[str, ...]:
    """A line for each input whose gradient the spec states, of an ordinary call in training."""
    if program.backward is None or not program.backward.inputs:
        return ()
    setting = Setting("train")
    example = make_example(program, setting, 0)
    norm = make_module(program, module, example, setting)
    buffers = {name: buffer.detach().clone() for name, buffer in norm.named_buffers()}
    call = reference(program, norm, example.inputs, buffers, example, setting)
    names = list(call.stated)
    lines = []
    for name, derived in zip(names, call.derived(names)):
        length = float(torch.linalg.vector_norm(derived))
        distance = float(torch.linalg.vector_norm(call.stated[name] - derived))
        off = "equals the derived one" if distance <= EQUAL * length else _off(distance, length)
        lines.append(f"{program.name} states the gradient of {name}, which {off}")
    return tuple(lines)


def _off(distance: float, length: float) -> str:
    if length == 0:
        return "is not zero, as the derived one is"
    return f"is off the derived one by {distance / length:.0%} of its length"
