"""Timing, side by side.

Machines are shared and their clocks wander, so only ratios inside one run count: in every round
all candidates run once, in an order that is drawn anew.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from metanorm.bench.clock import Clock, Lap, Prepare


@dataclass(frozen=True)
class Timing:
    """Seconds for one call: the median over the rounds, the quarter points, and the host's share
    where the work is done elsewhere."""

    median: float
    low: float
    high: float
    host: float | None = None


def time_together(
    candidates: Mapping[str, Prepare], rounds: int, clock: Clock, seed: int = 0
) -> dict[str, Timing]:
    """Time candidates side by side. Each makes, untimed, a call ready; then that is timed."""
    calls = {name: _calls(prepare, clock) for name, prepare in candidates.items()}
    laps: dict[str, list[Lap]] = {name: [] for name in candidates}
    order, shuffle = list(candidates), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            laps[name].append(clock.lap(candidates[name], calls[name]))
    return {name: _timing(found) for name, found in laps.items()}


def _calls(prepare: Prepare, clock: Clock) -> int:
    """Warm up, and find how many calls make a lap."""
    clock.lap(prepare, 1)
    return clock.calls(min(clock.lap(prepare, 1).seconds for _ in range(3)))


def _timing(laps: Sequence[Lap]) -> Timing:
    found = [lap.seconds for lap in laps]
    hosts = [lap.host for lap in laps if lap.host is not None]
    host = statistics.median(hosts) if hosts else None
    if len(found) == 1:
        return Timing(found[0], found[0], found[0], host)
    low, median, high = statistics.quantiles(found, n=4, method="inclusive")
    return Timing(median, low, high, host)
