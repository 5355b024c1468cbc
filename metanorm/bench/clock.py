"""Timing, side by side.

Machines are shared and their clocks wander, so only ratios inside one run count: in every round
all candidates run once, in an order that is drawn anew.
"""

from __future__ import annotations

import ctypes
import random
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Prepare = Callable[[], Callable[[], object]]
SHORTEST = 2e-3  # seconds; what takes less is repeated within a round
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, MOST = -1, -3, 2**31 - 1


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median over the rounds, and the quarter points."""

    median: float
    low: float
    high: float


def keep_freed_memory() -> bool:
    """Have the allocator keep what is freed, so that no candidate pays for fresh pages.

    Gives back whether it could be asked; that is so with glibc alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(M_TRIM_THRESHOLD, MOST) and mallopt(M_MMAP_THRESHOLD, MOST))


def time_together(
    candidates: Mapping[str, Prepare], rounds: int, seed: int = 0
) -> dict[str, Timing]:
    """Time candidates side by side. Each makes, untimed, a call ready; then that is timed."""
    repeats = {name: _repeats(prepare) for name, prepare in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in candidates}
    order, shuffle = list(candidates), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            total = sum(_once(candidates[name]) for _ in range(repeats[name]))
            times[name].append(total / repeats[name])
    return {name: _timing(found) for name, found in times.items()}


def _once(prepare: Prepare) -> float:
    call = prepare()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _repeats(prepare: Prepare) -> int:
    """Warm up, and find how many calls make a measurement."""
    _once(prepare)
    taken = min(_once(prepare) for _ in range(3))
    return max(1, round(SHORTEST / max(taken, 1e-9)))


def _timing(found: list[float]) -> Timing:
    if len(found) == 1:
        return Timing(found[0], found[0], found[0])
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Timing(median, low, high)
