"""The random numbers of a call in training, which a program takes as inputs."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor

from metanorm.ir.program import Program
from metanorm.oracle.call import Call
from metanorm.oracle.environment import CallEnvironment


def with_drawn_numbers(program: Program, call: Call, x: Tensor) -> Call:
    """The call with the numbers that a module draws in it, from the generator of the device of x.

    `x` is the first input as the module has it: what is drawn has its dtype, and its layout where
    it has its shape. Evaluation draws nothing, and who reads it there reads NaN.
    """
    env = CallEnvironment(program, call)
    numbers: dict[str, Tensor | None] = {}
    for decl in program.drawn_inputs:
        assert decl.drawn is not None
        shape = [n for dim in decl.dims for n in env.shapes[dim]]
        like = x.detach()
        if decl.dims != program.inputs[0].dims:
            like = torch.empty(shape, dtype=x.dtype, device=x.device)
        if call.training:
            arguments = [env.number(argument) for argument in decl.drawn.arguments]
            numbers[decl.name] = _drawn(decl.drawn.distribution, arguments, like).cpu()
        elif decl.sort in ("index", "whole"):  # of the first position: an index has no NaN
            numbers[decl.name] = torch.zeros(shape, dtype=torch.int64)
        else:
            numbers[decl.name] = torch.full(shape, math.nan, dtype=torch.float64)
    return replace(call, inputs={**call.inputs, **numbers})


def _drawn(distribution: str, arguments: list[float], like: Tensor) -> Tensor:
    match distribution, arguments:
        case "normal", [mean, std]:
            return (torch.randn_like(like) * std + mean).double()
        case "uniform", [low, high]:
            return (torch.rand_like(like) * (high - low) + low).double()
        case "bernoulli", [p]:
            return torch.rand_like(like, dtype=torch.float32) < p
        case "permutation", []:
            return torch.randperm(len(like), device=like.device)
    raise NotImplementedError(f"the oracle cannot draw from {distribution}")
