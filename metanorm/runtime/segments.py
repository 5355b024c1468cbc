"""Sums over groups whose labels are sorted, by `segment_csr` of torch-scatter.

Each group is then one piece of the rows, which is added up from its first row to its last. On a GPU
that is the same number in every run, where `index_add` adds in whatever order its threads come.
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
    """Sorted labels, and where the rows of each group begin: shape [groups + 1]."""

    labels: Tensor
    pointers: Tensor

    def total(self, x: Tensor, dim: int) -> Tensor:
        """The sum over each group, added up in float64; `dim` then enumerates groups."""
        if is_batched(x) or is_transformed():
            shape = list(x.shape)
            shape[dim] = self.pointers.shape[0] - 1
            return x.new_zeros(shape).index_add(dim, self.labels, x)
        added: Tensor = _Total.apply(x, self, dim)  # type: ignore[no-untyped-call]
        return added

    def spread(self, value: Tensor, dim: int) -> Tensor:
        """A value of each group, given back to its rows."""
        if is_batched(value) or is_transformed():
            return value.index_select(dim, self.labels)
        given: Tensor = _Spread.apply(value, self, dim)  # type: ignore[no-untyped-call]
        return given


Known = tuple[tuple[int, int], Tensor | None]  # version and number of groups; where each begins
# Of labels that were looked at: all layers of a network share those of a batch.
_known: WeakTensorKeyDictionary = WeakTensorKeyDictionary()


def segments_of(labels: Tensor, count: int, fresh: bool = False) -> Segments | None:
    """The segments of labels, or `None` where sums are to be taken by `index_add`.

    That is so where labels are not sorted, torch-scatter is not there or not worth it, and where
    something looks on that knows nothing of it. `fresh` labels are made anew in each call. Raises
    `RuntimeError` where torch-scatter is asked for on a GPU and was built without CUDA.
    """
    chosen, device = SUMS.get(), labels.device.type
    if chosen == "torch" or (chosen == "auto" and (fresh or not worth_it(labels.device))):
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


def worth_it(device: torch.device) -> bool:
    """Whether sums by torch-scatter are better than those by torch.

    On CPUs `index_add` is as exact and quicker (docs/performance.md).
    """
    return device.type == "cuda" and torch_scatter.on_cuda()


def _pointers(labels: Tensor, count: int) -> Tensor | None:
    """Where each group begins, or `None` where labels are not sorted. On a GPU the first look at a
    tensor of labels waits."""
    key = None if labels.is_inference() else (labels._version, count)
    known: Known | None = _known.get(labels)  # type: ignore[no-untyped-call]
    if key is not None and known is not None and known[0] == key:
        return known[1]
    found = None
    if bool((labels[1:] >= labels[:-1]).all()):
        found = torch.searchsorted(labels, torch.arange(count + 1, device=labels.device))
    if key is not None:
        _known[labels] = (key, found)
    return found


def _added(x: Tensor, segments: Segments, dim: int) -> Tensor:
    rows = x.movedim(dim, 0).double()
    added = torch.ops.torch_scatter.segment_sum_csr(rows, segments.pointers, None)
    return added.to(x.dtype).movedim(0, dim)  # type: ignore[no-any-return]


# Each is the other's derivative, to any order: those of torch-scatter itself end with the first.
class _Total(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, segments: Segments, dim: int) -> Tensor:
        return _added(x, segments, dim)

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
