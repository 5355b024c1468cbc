"""Integers summed over processes."""

from __future__ import annotations

from operator import index
from typing import SupportsIndex

import torch
import torch.distributed as dist

from metanorm.runtime.processes.process_groups import Group, as_process_group


def total_count(count: SupportsIndex, process_group: Group = None) -> int:
    """The sum of an integer over all processes of a group, such as the number of samples of each.

    With `N = runtime.total(len(x))`, a loss of `W / N * losses.sum()` on each of W processes has
    the gradient of the mean over all samples where gradients are averaged, as DDP does.

    Raises `TypeError` for what is no integer, such as a sum of weights.
    """
    try:
        whole_number = index(count)
    except TypeError:
        raise TypeError(
            f"runtime.total adds up integers, such as len(x), got {count!r}: add other numbers up "
            "with torch.distributed.all_reduce"
        ) from None
    if not dist.is_available() or not dist.is_initialized():
        return whole_number
    group = as_process_group(process_group)
    device = "cuda" if dist.get_backend(group) == "nccl" else "cpu"
    number = torch.tensor(whole_number, dtype=torch.int64, device=device)
    dist.all_reduce(number, group=group)
    return int(number)
