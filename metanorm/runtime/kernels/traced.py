"""Tensors without memory, by which torch traces operations, and what the results will look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import _disable_current_modes

from metanorm.runtime.kernels.reading import Place
from metanorm.runtime.kernels.refusals import Unfit


def is_traced(tensor: Tensor) -> bool:
    """Whether a graph is being made with it, so that it has no memory."""
    return isinstance(tensor, (FakeTensor, FunctionalTensor))


def is_closed(tensor: Tensor) -> bool:
    """Whether all lengths and strides are known while a graph is made."""
    return all(isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))


@contextmanager
def outside_of_traces() -> Iterator[None]:
    """Within, new tensors have memory, and nothing that is done with them is recorded."""
    with _disable_current_modes(), torch.no_grad():
        yield


def stand_in(value: Any) -> Any:
    """A tensor that lies as one without memory would in the call that torch traces; what is no
    tensor stays as it is. Labels are those of one group. Raises `Unfit`."""
    if not isinstance(value, Tensor):
        return value
    if value.device.type != "cpu":
        raise Unfit("a tensor of another device")
    shape, strides = (tuple(map(_of_example, n)) for n in (value.shape, value.stride()))
    made = torch.empty_strided(shape, strides, dtype=value.dtype)
    if not value.is_floating_point():
        made.zero_()
    return made.requires_grad_(value.requires_grad)


def _of_example(length: int | torch.SymInt) -> int:
    if isinstance(length, int):
        return length
    if not length.node.has_hint():
        raise Unfit("a length that is in the data")
    return int(length.node.hint)


def without_values(place: Place, operands: Sequence[Tensor]) -> Tensor:
    """A result that lies as it will."""
    like = operands[place.operand]
    if place.lengths is None:
        return torch.empty_like(like, dtype=place.dtype)
    shape = [operands[span.tensor].shape[span.first] for span in place.lengths]
    return like.new_empty(shape, dtype=place.dtype)


def laid_out_like(gradient: Tensor | None, x: Tensor) -> Tensor:
    """A gradient as it was foreseen: zeros for none."""
    foreseen = torch.empty_like(x)
    if gradient is not None and gradient.stride() == foreseen.stride():
        return gradient
    return foreseen.zero_() if gradient is None else foreseen.copy_(gradient)
