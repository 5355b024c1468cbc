"""Initial values of parameters and buffers that no weight determines."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metanorm.ir.nodes import Draw, Eye
from metanorm.ir.program import BufferDecl, ParamDecl, Program
from metanorm.oracle.call import Call
from metanorm.oracle.environment import CallEnvironment


def initial(program: Program, decl: ParamDecl | BufferDecl, call: Call) -> Tensor:
    """The initial value of `decl`, drawn from torch's generator where it is random."""
    env = CallEnvironment(program, call)
    shape = [n for dim in decl.dims for n in env.shapes[dim]]
    if isinstance(decl.init, Draw):
        arguments = [env.number(a) for a in decl.init.arguments]
        return drawn(decl.init.distribution, arguments, shape, call.draws_in)
    if isinstance(decl.init, Eye):
        return identity(shape, decl.init.blocks)
    return torch.full(shape, env.number(decl.init), dtype=torch.float64)


def identity(shape: Sequence[int], blocks: bool) -> Tensor:
    """An identity matrix in the last two dimensions, or one for each block of rows."""
    row, column = torch.arange(shape[-2])[:, None], torch.arange(shape[-1])
    same = row % max(shape[-1], 1) == column if blocks else row == column
    return same.to(torch.float64).expand(tuple(shape)).clone()


def drawn(
    distribution: str, arguments: Sequence[float], shape: Sequence[int], dtype: torch.dtype
) -> Tensor:
    """Random numbers, the same ones that torch draws for a tensor of this shape and dtype."""
    first, second = arguments
    empty = torch.empty(math.prod(shape), dtype=dtype)
    match distribution:
        case "normal":
            return torch.nn.init.normal_(empty, first, second).reshape(tuple(shape))
        case "uniform":
            return torch.nn.init.uniform_(empty, first, second).reshape(tuple(shape))
    raise NotImplementedError(f"the oracle cannot draw from {distribution}")
