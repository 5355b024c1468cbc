"""The devices of a benchmark: a CPU or a GPU, with its kernels, clock and workloads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from metanorm.bench.clock import Clock, CpuClock, CudaClock
from metanorm.bench.memory import peak_bytes, peak_bytes_on_gpu
from metanorm.bench.workload import GPU_WORKLOADS, WORKLOADS, Workload
from metanorm.runtime.targets import Target
from metanorm.targets.registry import target_for_device


@dataclass(frozen=True)
class Device:
    """A device type of torch. `cache` is the size in bytes that inputs in rotation have to exceed;
    0 if there is one input and no rotation."""

    type: str
    kernels: Target  # as `runtime.use` calls them
    clock: Clock
    cache: int
    peak: Callable[[Callable[[], object]], int]
    workloads: tuple[Workload, ...]


def cpu_device() -> Device:
    """The CPU. An input that fits the cache may stay there, as it would in a network."""
    return Device("cpu", target_for_device("cpu").name, CpuClock(), 0, peak_bytes, WORKLOADS)


def cuda_device() -> Device:
    """The default GPU of torch."""
    cache = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    kernels, workloads = target_for_device("cuda").name, (*WORKLOADS, *GPU_WORKLOADS)
    return Device("cuda", kernels, CudaClock(cache), cache, peak_bytes_on_gpu, workloads)


DEVICES: Mapping[str, Callable[[], Device]] = {"cpu": cpu_device, "cuda": cuda_device}
