"""The report of norms among processes, as data and in words."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from metanorm.bench.report import Machine, Model, Ratio

ALONE, ALONE_ON_TORCH = "alone", "alone, plain torch"
SYNCHRONIZED, SYNCHRONIZED_ON_TORCH = "synchronized", "synchronized, plain torch"
MESSAGES = "messages alone"
PHASES = ("forward", "both")


class ProcessTime(Model):
    """The seconds of a call on the first process, and its share of the synchronized call."""

    candidate: str
    phase: str
    median: float
    low: float
    high: float
    share: Ratio


class ProcessEntry(Model):
    """One norm on one input. `messages` has, for each phase, the length of each message in numbers
    of float64, its header of two included. Without times, `left_out` is the reason."""

    norm: str
    workload: str
    times: tuple[ProcessTime, ...] = ()
    messages: dict[str, tuple[int, ...]] = Field(default_factory=dict)
    left_out: str = ""

    def time(self, candidate: str, phase: str) -> ProcessTime:
        """The time of a candidate in a phase. Raises `KeyError` if it was not measured."""
        for measured in self.times:
            if (measured.candidate, measured.phase) == (candidate, phase):
                return measured
        raise KeyError(candidate, phase)


class ProcessReport(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    processes: int
    rounds: int
    entries: tuple[ProcessEntry, ...]


def lines_below(report: ProcessReport) -> Iterator[str]:
    """What the rows are, and why norms were left out."""
    yield f"{ALONE}: each process normalizes its own samples"
    yield f"{ALONE_ON_TORCH}: the same without kernels"
    yield f"{SYNCHRONIZED}: after `runtime.convert_sync`, over the samples of all processes"
    yield f"{SYNCHRONIZED_ON_TORCH}: the same without kernels"
    yield f"{MESSAGES}: the messages of the synchronized call alone, sent by gloo on this machine"
    for entry in report.entries:
        if entry.left_out:
            yield f"left out: {entry.norm}, {entry.workload}: {entry.left_out}"
