"""What C has written down of a forward call, for the backward pass in Python."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import cast

import torch

from metanorm.runtime.kernels.route import Like, Route
from metanorm.runtime.native.calls import Prepared


def route_of(record: bytes, route: Route) -> Route:
    """The route of the call that left this record; `route` is that of a call that looks like it.

    A record has the bytes saved, the number of groups of each operand that is an index, and of
    each operand rank, sizes and strides.
    """
    words = struct.unpack(f"={len(record) // 8}q", record)
    counts, at = words[1 : 1 + len(route.operands)], 1 + len(route.operands)
    likes: list[Like] = []
    for _, dtype, _ in route.likes:
        rank = words[at]
        sizes, strides = words[at + 1 : at + 1 + rank], words[at + 1 + rank : at + 1 + 2 * rank]
        likes.append((torch.Size(sizes), dtype, strides))
        at += 1 + 2 * rank
    groups = {
        f"{name}.count": count
        for name, count in zip(route.operands, counts)
        if f"{name}.count" in route.extra
    }
    prepared = cast(Prepared, route.prepared)
    return replace(
        route,
        likes=tuple(likes),
        extra={**route.extra, **groups},
        prepared=replace(prepared, kept=words[0] // prepared.real.itemsize),
        backward={},
    )
