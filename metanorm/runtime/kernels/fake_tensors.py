"""Fake tensors, with which torch traces operations, and the real tensors that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.utils._python_dispatch import _disable_current_modes

from metanorm.runtime.kernels.binding import Groups, Length, ResultSlot, Span
from metanorm.runtime.kernels.errors import Unsupported


def is_fake(tensor: Tensor) -> bool:
    """Whether a graph is traced with this tensor, so that it has no memory."""
    return isinstance(tensor, (FakeTensor, FunctionalTensor))


def has_static_layout(tensor: Tensor) -> bool:
    """Whether all lengths and strides are numbers, none of them symbolic."""
    return all(isinstance(n, int) for n in (*tensor.shape, *tensor.stride()))


@contextmanager
def without_tracing() -> Iterator[None]:
    """Within, new tensors have memory, and no operation on them is traced."""
    with _disable_current_modes(), torch.no_grad():
        yield


def example_for(value: Any) -> Any:
    """A real tensor with the layout of a fake one; what is no tensor stays as it is.

    Labels are those of one group. Raises `Unsupported`.
    """
    if not isinstance(value, Tensor):
        return value
    if value.device.type != "cpu":
        raise Unsupported("a tensor of another device")
    shape, strides = (tuple(map(_size_hint, n)) for n in (value.shape, value.stride()))
    example = torch.empty_strided(shape, strides, dtype=value.dtype)
    if not value.is_floating_point():
        example.zero_()
    return example.requires_grad_(value.requires_grad)


def _size_hint(length: int | torch.SymInt) -> int:
    if isinstance(length, int):
        return length
    if not length.node.has_hint():
        raise Unsupported("a length that is in the data")
    return int(length.node.hint)


def fake_result(slot: ResultSlot, operands: Sequence[Tensor]) -> Tensor:
    """A tensor in the layout of a result, for fake operands."""
    operand = operands[slot.operand]
    if slot.lengths is None:
        return torch.empty_like(operand, dtype=slot.dtype)
    shape = [_fake_length(length, operands) for length in slot.lengths]
    return operand.new_empty(shape, dtype=slot.dtype)


def _fake_length(length: Length, operands: Sequence[Tensor]) -> int | torch.SymInt:
    """A length of a result. A call with fake tensors says how many groups there are."""
    match length:
        case Span(tensor, first):
            return operands[tensor].shape[first]
        case Groups(_, count):
            return count
        case _:
            return length


def in_fake_layout(gradient: Tensor | None, x: Tensor) -> Tensor:
    """The gradient of `x` in the layout that the graph was told; zeros for none."""
    expected = torch.empty_like(x)
    if gradient is not None and gradient.stride() == expected.stride():
        return gradient
    return expected.zero_() if gradient is None else expected.copy_(gradient)
