"""Gradients of all kernels against finite differences, in double precision."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
import torch
from conftest import PROGRAMS, ROOT
from layers import use
from tiers import covering, modes, served, tiered

sys.path.append(str(ROOT / "tests" / "numerics"))
from samples import floats, sample, tensors

from metanorm.ir.nodes import Detach

# AdaNorm stops gradients, so that finite differences say other ones.
NAMES = [
    name for name, program in PROGRAMS.items()
    if served(program) and not any(isinstance(let.op, Detach) for let in program.body)
]  # fmt: skip


# What a norm states of its backward pass in training is no derivative.
WAYS = [
    (name, training)
    for name in NAMES
    for training in modes(PROGRAMS[name])
    if not training or PROGRAMS[name].backward is None
]
QUICK = {(name, True) for name in covering({name: PROGRAMS[name] for name in NAMES})} & set(WAYS)


@pytest.mark.parametrize("way", tiered(WAYS, QUICK), ids=lambda w: f"{w[0]}-{w[1]}")
def test_gradients(way: tuple[str, bool], library: ModuleType) -> None:
    name, training = way
    module, arguments = sample(PROGRAMS[name], library, training=training)
    leaves = {**floats(arguments), **dict(module.named_parameters())}
    input_names = [n for n in leaves if n in arguments]

    before = {n: b.clone() for n, b in module.named_buffers()}

    def run(*values: torch.Tensor) -> tuple[torch.Tensor, ...]:
        for n, buffer in before.items():  # some norms read what they write
            module._buffers[n] = buffer.clone()
        named = dict(zip(leaves, values))
        parameters = {n: v for n, v in named.items() if n not in input_names}
        for parameter, value in parameters.items():
            module._parameters[parameter] = value  # type: ignore[assignment]
        return tensors(module(**{**arguments, **{n: named[n] for n in input_names}}))

    values = tuple(x.detach().clone().requires_grad_() for x in leaves.values())
    with use("native"):
        assert torch.autograd.gradcheck(run, values)
