"""Sums of products over dimensions."""

from __future__ import annotations

import functools
from contextlib import AbstractContextManager, nullcontext
from string import ascii_letters

import torch
from torch import Tensor


def contracted(equation: str, *factors: Tensor) -> Tensor:
    """The sum of products that an `einsum` equation states, never in half precision."""
    dtype = functools.reduce(torch.promote_types, (f.dtype for f in factors))
    # Autocast would multiply in half precision, which is not enough for what scales everything.
    with without_autocast(factors[0]):
        spelled = _spelled_out(equation, [f.dim() for f in factors])
        added: Tensor = torch.einsum(spelled, *(f.to(dtype) for f in factors))
    return added


def _spelled_out(equation: str, dims: list[int]) -> str:
    """The equation with a letter for each dimension that `...` stands for, where these are summed.

    ONNX takes no `...` that the result lacks.
    """
    operands, result = equation.split("->")
    if "..." in result or "..." not in operands:
        return equation
    unused = [letter for letter in ascii_letters if letter not in equation]
    spelled = []
    for operand, count in zip(operands.split(","), dims):
        letters = unused[: count - len(operand.replace("...", ""))]
        spelled.append(operand.replace("...", "".join(reversed(letters))))  # aligned at the end
    return f"{','.join(spelled)}->{result}"


def without_autocast(like: Tensor) -> AbstractContextManager[object]:
    """Without autocast, on the device of a tensor; there is none for tensors without numbers.

    Nothing at all where it is off: torch.export would make a region of that.
    """
    if like.is_meta or not torch.is_autocast_enabled(like.device.type):
        return nullcontext()
    return torch.autocast(like.device.type, enabled=False)
