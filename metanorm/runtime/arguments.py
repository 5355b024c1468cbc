"""Checks of the arguments of a call: one rule for each sort of tensor, on every target.

Generated functions and kernels share these checks, so that both accept the same tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import overload

import torch
from torch import Tensor

from metanorm.runtime.errors import ShapeError, shape_text
from metanorm.runtime.nested import demand_dense
from metanorm.runtime.tracing import is_tracing

HALF = (torch.float16, torch.bfloat16)
GROUP_LABELS = "labels of groups"  # what errors call an index


@overload
def widened(x: Tensor, name: str = ...) -> Tensor: ...


@overload
def widened(x: Tensor | None, name: str = ...) -> Tensor | None: ...


def widened(x: Tensor | None, name: str = "") -> Tensor | None:
    """The tensor in the dtype of its statistics: float32 for the half-precision types.

    An absent input stays `None`. Raises `TypeError` for a tensor that is not of a
    floating-point type.
    """
    if x is None:
        return None
    demand_real(x, name)
    return x.float() if x.dtype in HALF else x


def rounded(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The tensor rounded to a dtype, in its own.

    The gradient is rounded too, as that of `x.to(dtype)` is. For dtypes of eight bits, which are
    too coarse for gradients, it passes unchanged.
    """
    if dtype == x.dtype:
        return x
    if dtype.itemsize > 1:
        return x.to(dtype).to(x.dtype)
    value = x.detach()
    return value.to(dtype).to(x.dtype) + (x - value)


def demand_real(x: Tensor, name: str = "") -> None:
    """Refuse what is not of a floating-point type, and nested tensors: `TypeError`."""
    demand_dense(x, name)
    if not x.is_floating_point():
        whose = f"{name}: " if name else ""
        raise TypeError(f"{whose}expected a tensor of a floating-point type, got {x.dtype}")


def demand_tensors(owner: str, /, **inputs: object) -> None:
    """Refuse inputs that are no tensors: `TypeError`."""
    for name, value in inputs.items():
        if not isinstance(value, Tensor):
            raise no_tensor(owner, name, value)


def demand_tensors_or_none(owner: str, /, **inputs: object) -> None:
    """Refuse inputs that are neither tensors nor left out: `TypeError`."""
    for name, value in inputs.items():
        if value is not None and not isinstance(value, Tensor):
            raise no_tensor(owner, name, value)


def no_tensor(owner: str, name: str, value: object) -> TypeError:
    """The error for an input that is no tensor."""
    kind = "None" if value is None else f"a {type(value).__name__}"
    return TypeError(f"{owner}: {name} must be a tensor, got {kind}")


def demand_shapes(shape: Sequence[int], /, **tensors: Tensor | None) -> None:
    """Refuse parameters and buffers of another shape than they were declared in: `ShapeError`.

    One that is not there is as good as any.
    """
    for name, tensor in tensors.items():
        if tensor is not None and tensor.shape != shape:
            wanted = ", ".join(map(str, shape))
            raise ShapeError(
                f"{name} has shape {shape_text(tensor)}, expected [{wanted}]: was it replaced?"
            )


def demand_ranks(rank: int, /, **tensors: Tensor | None) -> None:
    """Refuse parameters and buffers with another number of dimensions: `ShapeError`."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dim() != rank:
            raise ShapeError(
                f"{name} has shape {shape_text(tensor)}, expected {rank} dimensions: "
                "was it replaced?"
            )


def demand_min_ranks(rank: int, /, **tensors: Tensor | None) -> None:
    """Refuse parameters and buffers with fewer dimensions: `ShapeError`."""
    for name, tensor in tensors.items():
        if tensor is not None and tensor.dim() < rank:
            raise ShapeError(
                f"{name} has shape {shape_text(tensor)}, expected at least {rank} dimensions: "
                "was it replaced?"
            )


def demand_mask(mask: Tensor | None, name: str) -> None:
    """Refuse a mask that is not boolean: `TypeError`.

    An additive mask, with 0 where elements count, would be read the wrong way round.
    """
    if mask is not None and mask.dtype is not torch.bool:
        raise TypeError(
            f"{name} is a mask, true where elements count: expected a tensor of torch.bool, "
            f"got {mask.dtype}"
        )


def demand_whole(index: Tensor, name: str) -> None:
    """Refuse labels that are not integers: `TypeError`."""
    if index.is_floating_point() or index.is_complex() or index.dtype is torch.bool:
        raise TypeError(f"{name}: expected integers, got {index.dtype}")


def demand_count(count: object, among: str, length: int) -> None:
    """Refuse a number of groups for an axis that is not whole, `TypeError`, or below one where the
    axis has positions, `ValueError`.

    While a program is recorded, the number is symbolic and not checked.
    """
    if torch.compiler.is_compiling() or is_tracing():
        return
    if isinstance(count, (bool, Tensor)) or not hasattr(count, "__index__"):
        raise TypeError(f"a number of {among} must be an int, got {count!r}")
    if isinstance(count, int) and count < 1 and (count or length):
        raise ValueError(f"a number of {among} must be at least 1, got {count}")


def demand_matrix(matrix: Tensor, name: str) -> None:
    """Refuse a matrix of complex numbers: `TypeError`."""
    if matrix.is_complex():
        raise TypeError(f"{name}: a matrix pools by real numbers, got {matrix.dtype}")


SORTS: Mapping[str, Callable[[Tensor, str], None]] = {
    "tensor": demand_real,
    "mask": demand_mask,
    "index": demand_whole,
    "whole": demand_whole,
    "edges": demand_whole,
    "matrix": demand_matrix,
}


def demand(sort: str, tensor: Tensor, name: str) -> None:
    """Refuse a tensor whose type its sort does not have: `TypeError`."""
    SORTS[sort](tensor, name)
