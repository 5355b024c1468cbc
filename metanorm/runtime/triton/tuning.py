"""Autotuning: the first call with a layout times a few tile sizes on the device.

Different tiles may win in different runs. The last digits of results then differ, as sums are taken
in another order.
"""

from __future__ import annotations

import os
import statistics
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import torch

from metanorm.runtime.kernels.errors import CannotBuild

WARMUP, TIMED = 3, 10  # calls of each candidate

T = TypeVar("T")
Clock = Callable[[Callable[[], None]], float]

_enabled: bool | None = None


def autotune(on: bool = True) -> None:
    """Try tiles at the first call with each new layout on a GPU, as `METANORM_AUTOTUNE=1` does.

    Such a call takes some seconds. Later ones with the layout run on the tiles that were fastest.
    """
    global _enabled
    _enabled = on


def is_enabled() -> bool:
    """Whether autotuning is on."""
    return os.environ.get("METANORM_AUTOTUNE", "0") == "1" if _enabled is None else _enabled


def fastest(candidates: Sequence[T], call: Callable[[T], None], clock: Clock) -> T:
    """The candidate whose calls take least time; of equal ones, the first.

    Candidates that cannot be compiled are left out. Raises `CannotBuild` if that are all.
    """
    times: dict[int, float] = {}
    problem: CannotBuild | None = None
    for number, candidate in enumerate(candidates):
        try:
            times[number] = clock(lambda one=candidate: call(one))  # type: ignore[misc]
        except CannotBuild as failed:
            problem = problem or failed
    if problem is not None and not times:
        raise problem
    return candidates[min(times, key=times.__getitem__)]


def milliseconds(call: Callable[[], None]) -> float:
    """Milliseconds of a call on the current GPU."""
    for _ in range(WARMUP):
        call()
    times = [(_event(), _event()) for _ in range(TIMED)]
    for begin, end in times:
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return float(statistics.median(begin.elapsed_time(end) for begin, end in times))


def _event() -> Any:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
