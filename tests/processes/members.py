"""What each process of a team does. Every function gets the group and the rank first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from pieces import Piece, module_at, norm_of, run
from torch import Tensor

from metanorm import runtime
from metanorm.ir.program import Program
from metanorm.verify.cases import Example, Setting


def synchronized(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    parts: list[Example],
    setting: Setting,
    weights: list[dict[str, Tensor]],
    when: str = "train",
) -> dict[str, Tensor]:
    """A call of a norm that takes its samples from all processes."""
    norm = norm_of(path, program, parts[rank], setting)
    runtime.convert_sync(norm, group, when=when)
    actual = run(norm, program, parts[rank], weights[rank])
    return added(group, actual)


def added(group: Any, found: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same with gradients of parameters added up, as DDP does but for a factor."""
    done = dict(found)
    for name in sorted(done):
        if name.startswith("gradient of parameter"):
            done[name] = done[name].double()
            dist.all_reduce(done[name], group=group)
    return done


def sharded(
    group: Any,
    rank: int,
    path: str,
    program: Program,
    parts: list[Piece],
    axes: list[str],
    weights: list[dict[str, Tensor]],
    training: bool,
) -> dict[str, Tensor]:
    """A call of a norm of which each process has pieces of some axes, parameters included."""
    part = parts[rank]
    norm = getattr(module_at(path), program.name)(**part.arguments).double()
    with torch.no_grad():
        for name, tensor in (*norm.named_parameters(), *norm.named_buffers()):
            tensor.copy_(part.state[name])
    runtime.shard(norm.train(training), dict.fromkeys(axes, group), reduce_gradients="sum")
    return run(norm, program, part, weights[rank])
