"""Results of a benchmark: as data, and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from pydantic import BaseModel, ConfigDict

# What a norm has to move, in tensors of the size of its input: x and y; dy, x and dx; all of them.
PHASES: Mapping[str, int] = {"forward": 2, "backward": 3, "both": 5}
TENSORS_OF_A_COPY = 2  # tensors that a copy moves
OURS = "metanorm"


class Model(BaseModel):
    """Unchangeable, and without fields of another version."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Model):
    """Where the times were taken; `gpu` is empty where that was the processor."""

    processor: str
    threads: int
    torch: str
    metanorm: str
    gpu: str = ""
    driver: str = ""
    cuda: str = ""


class Measurement(Model):
    """One candidate in one phase. Times are seconds for a call: median, and quarter points.

    `host` is how long the host was busy with it, where the work was done elsewhere.
    """

    candidate: str
    phase: str
    median: float
    low: float
    high: float
    host: float | None = None


class Ratio(Model):
    """How many times as long something takes as something else: median over rounds, and quarter
    points."""

    median: float
    low: float
    high: float


class Footprint(Model):
    """Bytes of tensors of one candidate, for a forward and a backward pass."""

    candidate: str
    peak: int
    saved: int


class Entry(Model):
    """One norm on one workload. `copy_seconds` is the time of copying the input."""

    norm: str
    workload: str
    nbytes: int
    copy_seconds: float
    measurements: tuple[Measurement, ...]
    footprints: tuple[Footprint, ...]
    left_out: tuple[str, ...] = ()

    def measurement(self, candidate: str, phase: str) -> Measurement | None:
        """A measurement, or `None` where there is none."""
        named = (m for m in self.measurements if (m.candidate, m.phase) == (candidate, phase))
        return next(named, None)

    def median(self, candidate: str, phase: str) -> float | None:
        """Seconds, or `None` where that was not measured."""
        measurement = self.measurement(candidate, phase)
        return None if measurement is None else measurement.median

    @property
    def bandwidth(self) -> float:
        """Bytes per second of the copy, which reads its input and writes as much."""
        return TENSORS_OF_A_COPY * self.nbytes / self.copy_seconds

    def share(self, candidate: str, phase: str) -> float | None:
        """What part of the bandwidth of the copy a candidate reaches.

        Of all bytes that it moves, those count that any norm has to.
        """
        seconds = self.median(candidate, phase)
        if not seconds:
            return None
        return PHASES[phase] * self.nbytes / seconds / self.bandwidth


class Report(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    entries: tuple[Entry, ...]


def machine_text(machine: Machine) -> str:
    """A machine in words."""
    versions = f"torch {machine.torch}, metanorm {machine.metanorm}"
    if machine.gpu:
        versions = f"driver {machine.driver}, CUDA {machine.cuda}, {versions}"
        return f"{machine.gpu}, beside {machine.processor}, {versions}"
    return f"{machine.processor}, {machine.threads} threads, {versions}"


def left_out(report: Report) -> Iterator[str]:
    """A line for each candidate that could not run."""
    for entry in report.entries:
        for reason in entry.left_out:
            yield f"left out of {entry.norm}, {entry.workload}: {reason}"


def changes(old: Report, new: Report) -> Iterator[str]:
    """A line for each time that an older report has too; both are taken in copies."""
    before = {(e.norm, e.workload): e for e in old.entries}
    for entry in new.entries:
        other = before.get((entry.norm, entry.workload))
        if other is None:
            continue
        for m in entry.measurements:
            then = other.median(m.candidate, m.phase)
            if then is not None:
                ratio = (m.median / entry.copy_seconds) / (then / other.copy_seconds)
                where = f"{entry.norm}, {entry.workload}, {m.candidate}, {m.phase}"
                yield f"{where}: {ratio:.2f} times what it took"
