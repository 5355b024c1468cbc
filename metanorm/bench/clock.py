"""Clocks: how long calls take that are made ready beforehand, on the CPU and on a GPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch

PrepareCall = Callable[[], Callable[[], object]]
MAX_CALLS = 256  # of one lap on a GPU, whose driver keeps about a thousand launches waiting


@dataclass(frozen=True)
class Lap:
    """Seconds for a call, on average over a lap, or as a clock sums them up.

    `host` is when the host could go on, where that is not when the work was done.
    """

    seconds: float
    host: float | None = None


class Clock(Protocol):
    """What times laps of several calls."""

    def calls(self, seconds: float) -> int:
        """How many calls make a lap, if one takes so long."""
        ...

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Make so many calls ready, untimed, and time them."""
        ...


@dataclass(frozen=True)
class CpuClock:
    """Each call is made ready just before it is timed, so that memory is as one call leaves it."""

    now: Callable[[], float] = time.perf_counter
    shortest: float = 2e-3  # seconds of a lap
    average: Callable[[Sequence[float]], float] = statistics.fmean  # of the calls of a lap

    def calls(self, seconds: float) -> int:
        """As many as fill the shortest lap."""
        return max(1, round(self.shortest / max(seconds, 1e-9)))

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Time one after the other."""
        return Lap(self.average([self._once(prepare) for _ in range(calls)]))

    def _once(self, prepare: PrepareCall) -> float:
        call = prepare()
        start = self.now()
        call()
        return self.now() - start


class CudaClock:
    """Events before and behind calls that are launched without a pause, as a network does.

    Where the GPU is quicker than the host can launch, that is the time of the host. What is in the
    cache is driven out before a lap; meanwhile the host gets ahead by a call or two.
    """

    shortest = 5e-3  # seconds of a lap, beside which the first launch hardly counts

    def __init__(self, cache: int) -> None:
        self._evicting = torch.empty(2 * cache, dtype=torch.uint8, device="cuda")

    def calls(self, seconds: float) -> int:
        """As many as fill the shortest lap, and not more than inputs can take turns for."""
        return min(MAX_CALLS, max(1, round(self.shortest / max(seconds, 1e-9))))

    def lap(self, prepare: PrepareCall, calls: int) -> Lap:
        """Time all of them together."""
        ready = [prepare() for _ in range(calls)]
        first, last = _timing_event(), _timing_event()
        torch.cuda.synchronize()
        self._evicting.zero_()
        first.record()
        start = time.perf_counter()
        for call in ready:
            call()
        host = time.perf_counter() - start
        last.record()
        last.synchronize()
        return Lap(first.elapsed_time(last) / 1e3 / calls, host / calls)


def _timing_event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
