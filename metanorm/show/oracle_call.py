"""The small example of a norm as the oracle takes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from metanorm.ir.program import Declaration, InputDecl, Program
from metanorm.oracle.call import Call
from metanorm.show.example import example
from metanorm.small import tensor as small
from metanorm.small.call import EPSILON

DTYPES = {"index": torch.long, "whole": torch.long, "edges": torch.long, "mask": torch.bool}


def oracle_call(program: Program, lengths: Mapping[str, int] | None = None) -> tuple[Program, Call]:
    """A norm with short axes, and a call of it in training mode.

    Real numbers are of float64. `lengths` has those of some of the free axes. Raises `CannotDraw`
    if its pools are large whatever the lengths of free axes, or if it cannot have these lengths.
    """
    call = example(program, lengths)

    def tensors(declarations: Iterable[Declaration]) -> Mapping[str, Tensor | None]:
        return {d.name: _as_torch(call.tensor(d.name), _dtype(d)) for d in declarations}

    hypers = {
        name: _as_torch(value, torch.float64) if isinstance(value, small.Tensor) else value
        for name, value in call.hypers.items()
    }
    small_program = call.program
    return small_program, Call(
        tensors(small_program.inputs),
        tensors(small_program.params),
        tensors(small_program.buffers),
        hypers,
        epsilon=EPSILON,
    )


def _dtype(decl: Declaration) -> torch.dtype:
    return DTYPES.get(decl.sort, torch.float64) if isinstance(decl, InputDecl) else torch.float64


def _as_torch(tensor: small.Tensor, dtype: torch.dtype) -> Tensor:
    return torch.tensor(tensor.elements, dtype=dtype).reshape(tensor.shape)
