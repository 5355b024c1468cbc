"""What each process of a benchmark of several does: time the same calls at the same time."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from metanorm.bench.candidates import Candidate, unwrapped, without_kernels
from metanorm.bench.clock import CpuClock, Lap, PrepareCall
from metanorm.bench.fallback import one_line_reason
from metanorm.bench.processes.report import (
    ALONE,
    ALONE_ON_TORCH,
    MESSAGES,
    PHASES,
    SYNCHRONIZED,
    SYNCHRONIZED_ON_TORCH,
    ProcessEntry,
    ProcessTime,
)
from metanorm.bench.rotation import Rotation
from metanorm.bench.turns import laps_in_turns, ratio_of_laps, timing_of_laps
from metanorm.runtime import convert_sync, synchronized
from metanorm.verify.cases import Example

PACKAGE = "benchmarked"  # the package of generated modules, in a folder that all processes share
STORE = "store"  # the file by which processes find each other


@dataclass(frozen=True)
class Job:
    """A norm and the input of each process: the same shape on all of them."""

    module: str
    norm: str
    workload: str
    example: Example
    dtype: torch.dtype


def work(
    rank: int, size: int, folder: str, jobs: Sequence[Job], rounds: int, threads: int, results: Any
) -> None:
    """Join the group of all processes and time all jobs. The first process puts an entry for each
    into the queue `results`."""
    torch.set_num_threads(threads)
    store = f"file://{Path(folder) / STORE}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=size)
    sys.path.insert(0, folder)
    try:
        for job in jobs:
            entry = measure_job(job, rounds)
            if rank == 0:
                results.put(entry)
    finally:
        dist.destroy_process_group()


def measure_job(job: Job, rounds: int) -> ProcessEntry:
    """Time a norm alone, with the samples of all processes, and its messages alone."""
    head = {"norm": job.norm, "workload": job.workload}
    rotation = Rotation(job.example, "cpu")
    try:
        together = convert_sync(_layer(job))
        if not synchronized(together):
            return ProcessEntry(**head, left_out="it does not pool over samples")
        layers = (
            (ALONE, _layer(job), unwrapped),
            (ALONE_ON_TORCH, _layer(job), without_kernels),
            (SYNCHRONIZED, together, unwrapped),
            (SYNCHRONIZED_ON_TORCH, convert_sync(_layer(job)), without_kernels),
        )
        candidates = {
            name: Candidate(name, wrap(layer), rotation, tuple(layer.parameters()))
            for name, layer, wrap in layers
        }
        messages = {phase: _message_lengths(candidates[SYNCHRONIZED], phase) for phase in PHASES}
    except Exception as error:  # any refusal of a norm is a line of the report
        return ProcessEntry(**head, left_out=one_line_reason(error))
    times: list[ProcessTime] = []
    for phase in PHASES:
        laps = laps_in_turns(
            {
                **{name: candidate.prepare(phase) for name, candidate in candidates.items()},
                MESSAGES: _prepare_messages(messages[phase]),
            },
            rounds,
            GroupClock(),
        )
        times += [_process_time(name, phase, laps) for name in laps]
    return ProcessEntry(**head, times=tuple(times), messages=messages)


def _layer(job: Job) -> nn.Module:
    module = importlib.import_module(f"{PACKAGE}.{job.module}")
    layer: nn.Module = getattr(module, job.norm)(**job.example.arguments)
    return layer.to(job.dtype)


def _process_time(name: str, phase: str, laps: Mapping[str, Sequence[Lap]]) -> ProcessTime:
    timing = timing_of_laps(laps[name])
    return ProcessTime(
        candidate=name,
        phase=phase,
        median=timing.median,
        low=timing.low,
        high=timing.high,
        share=ratio_of_laps(laps[name], laps[SYNCHRONIZED]),
    )


# ---- messages


class MessageRecorder(TorchDispatchMode):
    """Records the lengths of all messages, in numbers."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.lengths: list[int] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        if func is torch.ops._c10d_functional.all_reduce.default:
            self.lengths.append(args[0].numel())
        return func(*args, **(kwargs or {}))


def _message_lengths(candidate: Candidate, phase: str) -> tuple[int, ...]:
    """The lengths of the messages of a call, in the order in which they are sent."""
    call = candidate.prepare(phase)()
    with MessageRecorder() as recorder:
        call()
    return tuple(recorder.lengths)


def _prepare_messages(lengths: Sequence[int]) -> PrepareCall:
    """Calls that send messages of these lengths, and do nothing else."""
    buffers = [torch.zeros(length, dtype=torch.float64) for length in lengths]
    group = dist.group.WORLD
    assert group is not None
    operations, name = torch.ops._c10d_functional, group.group_name

    def send() -> list[Tensor]:
        return [
            operations.wait_tensor(operations.all_reduce(buffer, "sum", name)) for buffer in buffers
        ]

    calls = repeat(send)
    return lambda: next(calls)


# ---- time


class GroupClock:
    """A clock whose laps begin on all processes together and have equally many calls on each."""

    def __init__(self) -> None:
        self._own = CpuClock()

    def calls(self, seconds: float) -> int:
        """The number of calls of a lap, by the slowest process."""
        slowest = torch.tensor([seconds], dtype=torch.float64)
        dist.all_reduce(slowest, dist.ReduceOp.MAX)
        return self._own.calls(slowest.item())

    def lap(self, prepare: Callable[[], Callable[[], object]], calls: int) -> Lap:
        """Wait for all processes, then time each call alone."""
        dist.barrier()
        return self._own.lap(prepare, calls)
