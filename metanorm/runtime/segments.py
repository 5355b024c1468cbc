"""Sums over groups whose labels are sorted, by `segment_csr` of torch-scatter.

Each group is a segment of the rows, which is summed in order. On a GPU the result is the same in
every run; `index_add` adds in the order in which threads come.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from metanorm.runtime import torch_scatter
from metanorm.runtime.backends import SUMS
from metanorm.runtime.saving import save, saved
from metanorm.runtime.tensors import (
    is_batched,
    is_capturing,
    is_plain_tensor,
    is_traced,
    is_transformed,
)


class Segments(NamedTuple):
    """Sorted labels, and the first row of each group: shape [groups + 1]."""

    labels: Tensor
    pointers: Tensor

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each group, added up in float64; `dim` then enumerates groups."""
        if is_batched(x) or is_transformed():
            shape = list(x.shape)
            shape[dim] = self.pointers.shape[0] - 1
            return x.new_zeros(shape).index_add(dim, self.labels, x)
        total: Tensor = _Total.apply(x, self, dim)  # type: ignore[no-untyped-call]
        return total

    def spread(self, value: Tensor, dim: int) -> Tensor:
        """The value of its group for each row."""
        if is_batched(value) or is_transformed():
            return value.index_select(dim, self.labels)
        spread_value: Tensor = _Spread.apply(value, self, dim)  # type: ignore[no-untyped-call]
        return spread_value


CachedPointers = tuple[tuple[int, int], Tensor | None]  # version and number of groups; pointers
# By labels: all layers of a network share those of a batch.
_pointer_cache: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def segments_of(labels: Tensor, count: int, fresh: bool = False) -> Segments | None:
    """The segments of labels, or `None` if `index_add` is to take sums.

    That is so if labels are not sorted, if torch-scatter is not installed or not better, and under
    transforms, which do not know it. `fresh` labels are new in each call. Raises `RuntimeError` if
    `use` asks for torch-scatter on a GPU, and it was built without CUDA.
    """
    backend, device = SUMS.get(), labels.device.type
    if backend == "torch" or (
        backend == "auto" and (fresh or not prefers_torch_scatter(labels.device))
    ):
        return None
    if (
        is_traced()
        or not is_plain_tensor(labels, device)
        or not labels.numel()
        or is_capturing(labels.device)
    ):
        return None
    if device == "cuda" and not torch_scatter.on_cuda():
        raise RuntimeError(f"sums by torch-scatter on a GPU: {torch_scatter.WITHOUT_CUDA}")
    pointers = _pointers(labels, count)
    return None if pointers is None else Segments(labels, pointers)


def prefers_torch_scatter(device: torch.device) -> bool:
    """Whether torch-scatter takes better sums than torch on a device.

    On CPUs `index_add` is as exact, and faster (docs/performance.md).
    """
    return device.type == "cuda" and torch_scatter.on_cuda()


def _pointers(labels: Tensor, count: int) -> Tensor | None:
    """The first row of each group, or `None` if labels are not sorted.

    The first call with a tensor of labels synchronizes with a GPU.
    """
    key = None if labels.is_inference() else (labels._version, count)
    cached: CachedPointers | None = _pointer_cache.get(labels)  # type: ignore[no-untyped-call]
    if key is not None and cached is not None and cached[0] == key:
        return cached[1]
    pointers = None
    if bool((labels[1:] >= labels[:-1]).all()):
        pointers = torch.searchsorted(labels, torch.arange(count + 1, device=labels.device))
    if key is not None:
        _pointer_cache[labels] = (key, pointers)
    return pointers


def remember_pointers(labels: Tensor, pointers: Tensor) -> None:
    """Note the first row of each group of sorted labels, so that nothing has to look for them."""
    if not labels.is_inference():
        key = (labels._version, pointers.shape[0] - 1)
        # A copy: where each tensor keeps the other one alive, both live forever.
        _pointer_cache[labels] = (key, pointers.to(torch.int64, copy=True))


def _segment_sums(x: Tensor, segments: Segments, dim: int) -> Tensor:
    rows = x.movedim(dim, 0).double()
    sums = torch.ops.torch_scatter.segment_sum_csr(rows, segments.pointers, None)
    return sums.to(x.dtype).movedim(0, dim)  # type: ignore[no-any-return]


# Each is the derivative of the other, to any order; torch-scatter has first derivatives alone.
class _Total(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, segments: Segments, dim: int) -> Tensor:
        return _segment_sums(x, segments, dim)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, segments, ctx.dim = inputs
        save(ctx, *segments)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return Segments(*saved(ctx)).spread(gradients[0], ctx.dim), None, None


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(value: Tensor, segments: Segments, dim: int) -> Tensor:
        return value.index_select(dim, segments.labels)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, segments, ctx.dim = inputs
        save(ctx, *segments)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Tensor | None, ...]:
        return Segments(*saved(ctx)).total(gradients[0], ctx.dim), None, None
