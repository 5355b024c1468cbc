"""The report of the parts of calls, as data."""

from __future__ import annotations

from collections.abc import Mapping

from metanorm.bench.report import Machine, Model, Ratio


class CallTime(Model):
    """One callee in one phase. Times are seconds for a call: median, and quarter points.

    `ratio` is beside the layer of others in the same phase, round by round; that of compiled
    modules beside their compiled layer.
    """

    callee: str
    phase: str
    median: float
    low: float
    high: float
    ratio: Ratio | None = None


class CallEntry(Model):
    """One norm on one input. `beside` is where the layer of others is from, empty where there is
    none."""

    norm: str
    workload: str
    beside: str
    times: tuple[CallTime, ...]
    left_out: tuple[str, ...] = ()

    @property
    def by_callee(self) -> Mapping[str, Mapping[str, CallTime]]:
        """The times of each callee by phase."""
        times_by_callee: dict[str, dict[str, CallTime]] = {}
        for time in self.times:
            times_by_callee.setdefault(time.callee, {})[time.phase] = time
        return times_by_callee


class CallReport(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    rounds: int
    entries: tuple[CallEntry, ...]
