"""Offsets of consecutive segments, such as the `cu_seqlens` of a packed batch.

The kernels of variable-length attention take them: where each sequence begins in the packed axis,
and the length of that axis at the end. Norms pool by the segment of each position, which is found
once for all layers that are given the same tensor.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor
from torch.fx import Proxy
from torch.utils.weak import WeakTensorKeyDictionary

from metanorm.runtime.arguments import demand_whole
from metanorm.runtime.devices import demand_one_device
from metanorm.runtime.errors import ShapeError, shape_text
from metanorm.runtime.groups import LABEL_DTYPES
from metanorm.runtime.segments import remember_pointers
from metanorm.runtime.tensors import is_capturing, must_decompose

CachedSegments = tuple[tuple[int, int], Tensor]  # version and length of the axis; segments
_segments_cache: WeakTensorKeyDictionary = WeakTensorKeyDictionary()  # by offsets


def segment_of_position(
    offsets: Tensor | None, length: int, x: Tensor, owner: str, name: str
) -> Tensor | None:
    """The segment of each of `length` positions: shape [length]. `None` for no offsets.

    `offsets` are those of a call of the norm `owner`, which calls them `name`; `x` is its first
    input. Segments may be empty.

    Raises `TypeError` for offsets that are not int64 or int32, `ShapeError` for those that are not
    in one dimension, `RuntimeError` for those on another device than `x`, and `ValueError` if they
    do not begin with 0, decrease, or do not end with the length. Values are not checked while a
    program is recorded or a CUDA graph captured, nor on `meta` tensors; elsewhere the check
    synchronizes with a GPU once for each tensor of offsets.
    """
    if offsets is None:
        return None
    if isinstance(x, Proxy):  # `torch.fx` traces the norm by itself
        inputs = (offsets, length, x, owner, name)
        node = x.tracer.create_proxy("call_function", segment_of_position, inputs, {})
        return cast(Tensor, node)
    what = f"{owner}: {name}"
    _demand_offsets(offsets, what)
    demand_one_device(owner, {"the input": x, name: offsets}, movable=())
    if offsets.is_meta or must_decompose(offsets) or is_capturing(offsets.device):
        return _segments(offsets, length).clamp(min=0).clamp(max=offsets.shape[0] - 2)
    key = None if offsets.is_inference() else (offsets._version, length)
    cached: CachedSegments | None = _segments_cache.get(offsets)  # type: ignore[no-untyped-call]
    if key is not None and cached is not None and cached[0] == key:
        return cached[1]
    _demand_values(offsets, length, what)
    with torch.inference_mode(False):  # a later call may save the result for its gradient
        segments = _segments(offsets, length)
        remember_pointers(segments, offsets)
    if key is not None:
        _segments_cache[offsets] = (key, segments)
    return segments


def segment_count(offsets: Tensor | None) -> int | None:
    """The number of segments; `None` for no offsets."""
    return None if offsets is None else offsets.shape[0] - 1


def _segments(offsets: Tensor, length: int) -> Tensor:
    positions = torch.arange(length, device=offsets.device, dtype=offsets.dtype)
    return torch.searchsorted(offsets.contiguous(), positions, right=True) - 1


def _demand_offsets(offsets: Tensor, what: str) -> None:
    """Refuse offsets that cannot be read: `TypeError`, `ShapeError`."""
    demand_whole(offsets, what)
    if offsets.dtype not in LABEL_DTYPES:
        raise TypeError(f"{what} must be int64 or int32, got {offsets.dtype}: convert them first")
    if offsets.dim() != 1 or not offsets.shape[0]:
        raise ShapeError(
            f"{what} has shape {shape_text(offsets)}, expected [segments + 1]: where each segment "
            "begins, and the length at the end"
        )


def _demand_values(offsets: Tensor, length: int, what: str) -> None:
    """Refuse offsets that do not cut the axis into segments: `ValueError`."""
    steps = offsets.diff()
    ends = torch.stack((offsets[0], offsets[-1]))
    decreases = (steps < 0).any().to(offsets.dtype).reshape(1)
    first, last, some_decrease = torch.cat((ends, decreases)).tolist()  # waits for a GPU once
    if first != 0:
        raise ValueError(f"{what} must begin with 0, where the first segment does, got {first}")
    if some_decrease:
        position = int((steps < 0).nonzero()[0])
        before, after = offsets[position : position + 2].tolist()
        raise ValueError(
            f"{what} must not decrease: {before} at {position} is followed by {after}. They are "
            "where each segment begins, not how long it is"
        )
    if last != length:
        raise ValueError(
            f"{what} must end with the length of the packed axis, {length}, got {last}"
        )
