"""Times candidates side by side.

Machines are shared and their clocks vary, so that only ratios inside one run count: in every round
all candidates run once, in random order.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from metanorm.bench.clock import Clock, Lap, PrepareCall
from metanorm.bench.report import Ratio


@dataclass(frozen=True)
class Timing:
    """Seconds of a call: median and quartiles over the rounds, and the time of the host if the
    device works asynchronously."""

    median: float
    low: float
    high: float
    host: float | None = None


Key = TypeVar("Key", bound=Hashable)


def time_in_turns(
    candidates: Mapping[Key, PrepareCall], rounds: int, clock: Clock, seed: int = 0
) -> dict[Key, Timing]:
    """Time candidates side by side. Preparing a call is not timed."""
    laps = laps_in_turns(candidates, rounds, clock, seed)
    return {name: timing_of_laps(candidate_laps) for name, candidate_laps in laps.items()}


def laps_in_turns(
    candidates: Mapping[Key, PrepareCall], rounds: int, clock: Clock, seed: int = 0
) -> dict[Key, list[Lap]]:
    """The laps of candidates side by side, one of each in every round."""
    calls = {name: _calls_of_a_lap(prepare, clock) for name, prepare in candidates.items()}
    laps: dict[Key, list[Lap]] = {name: [] for name in candidates}
    order, shuffle = list(candidates), random.Random(seed).shuffle
    for _ in range(rounds):
        shuffle(order)
        for name in order:
            laps[name].append(clock.lap(candidates[name], calls[name]))
    return laps


def ratio_of_laps(laps: Sequence[Lap], base_laps: Sequence[Lap]) -> Ratio:
    """The ratio of the times of two candidates, from laps of the same rounds.

    A machine hardly changes during a round, so the median of ratios is less noisy than the ratio
    of medians.
    """
    low, median, high = _quartiles([a.seconds / b.seconds for a, b in zip(laps, base_laps)])
    return Ratio(median=median, low=low, high=high)


def timing_of_laps(laps: Sequence[Lap]) -> Timing:
    """The timing of the laps of a candidate."""
    hosts = [lap.host for lap in laps if lap.host is not None]
    low, median, high = _quartiles([lap.seconds for lap in laps])
    return Timing(median, low, high, statistics.median(hosts) if hosts else None)


def _quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The quartiles of one or more numbers."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, median, high


def _calls_of_a_lap(prepare: PrepareCall, clock: Clock) -> int:
    """Warm up, and return the number of calls of a lap."""
    clock.lap(prepare, 1)
    return clock.calls(min(clock.lap(prepare, 1).seconds for _ in range(3)))
