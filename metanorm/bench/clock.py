"""Clocks for prepared calls, on the CPU and on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

PrepareCall = Callable[[], Callable[[], object]]
MAX_CALLS = 256  # of a lap on a GPU, whose driver queues about a thousand launches


@dataclass(frozen=True)
class Lap:
    """Seconds of a call, averaged over the calls of a lap.

    `host` is the time until the host could continue, on devices that work asynchronously.
    """

    seconds: float
    host: float | None = None


class Clock(Protocol):
    """Times laps, which consist of several calls."""

    def calls(self, seconds: float) -> int:
        """The number of calls of a lap, if a call takes so many seconds."""
        ...

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Prepare so many calls, untimed, and time them."""
        ...


@dataclass(frozen=True)
class CpuClock:
    """Prepares each call just before it is timed, so that memory is as one call leaves it."""

    now: Callable[[], float] = time.perf_counter
    shortest: float = 2e-3  # seconds of a lap
    average: Callable[[Sequence[float]], float] = statistics.fmean  # of the calls of a lap

    def calls(self, seconds: float) -> int:
        """The number of calls that fill the shortest lap."""
        return max(1, round(self.shortest / max(seconds, 1e-9)))

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Time each call alone."""
        return Lap(self.average([self._once(prepare) for _ in range(calls)]))

    def _once(self, prepare: PrepareCall) -> float:
        call = prepare()
        start = self.now()
        call()
        return self.now() - start


class CudaClock:
    """Records events before and after calls that are launched without a pause, as in a network.

    If the GPU is faster than the host can launch, this is the time of the host. The cache is
    flushed before a lap; meanwhile the host gets ahead by a call or two.
    """

    shortest = 5e-3  # seconds of a lap, much longer than the first launch

    def __init__(self, cache: int) -> None:
        self._evicting = torch.empty(2 * cache, dtype=torch.uint8, device="cuda")

    def calls(self, seconds: float) -> int:
        """The number of calls that fill the shortest lap, `MAX_CALLS` at most."""
        return min(MAX_CALLS, max(1, round(self.shortest / max(seconds, 1e-9))))

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Time all calls together."""
        calls_to_time = [prepare() for _ in range(calls)]
        start_event, end_event = _timing_event(), _timing_event()
        torch.cuda.synchronize()
        self._evicting.zero_()
        start_event.record()
        start = time.perf_counter()
        for call in calls_to_time:
            call()
        host = time.perf_counter() - start
        end_event.record()
        end_event.synchronize()
        return Lap(start_event.elapsed_time(end_event) / 1e3 / calls, host / calls)


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
