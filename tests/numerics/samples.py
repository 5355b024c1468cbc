"""A module of each norm, and arguments to call it with."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from metanorm.ir.program import Program
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import make_module


def sample(
    program: Program, library: ModuleType, seed: int = 0, **setting: Any
) -> tuple[nn.Module, dict[str, Any]]:
    """A module with random parameters and the keyword arguments of a call, in float64."""
    chosen = replace(Setting("train"), **setting)
    built = make_example(program, chosen, seed)
    arguments: dict[str, Any] = dict(built.inputs)
    arguments.update({f"{name}_size": count for name, count in built.groups.items()})
    module = make_module(program, library, built, chosen)
    if program.drawn_inputs:
        module.register_forward_pre_hook(draw_alike)
    return module, arguments


def draw_alike(module: nn.Module, inputs: Any) -> None:
    """Before a call: let it draw what the call before has drawn. No graph can hold a seed."""
    if not torch.compiler.is_compiling():
        torch.manual_seed(0)


def tensors(result: Any) -> tuple[Tensor, ...]:
    """The outputs of a call."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def floats(arguments: dict[str, Any]) -> dict[str, Tensor]:
    """The arguments that have gradients."""
    return {n: x for n, x in arguments.items() if isinstance(x, Tensor) and x.is_floating_point()}


def loss(result: Any) -> Tensor:
    """A number that depends on every element of every output."""
    total = torch.zeros((), dtype=torch.float64)
    for position, tensor in enumerate(tensors(result)):
        weights = torch.linspace(-1, 2, tensor.numel(), dtype=tensor.dtype).view(tensor.shape)
        total = total + (tensor * weights).sum() * (position + 1)
    return total
