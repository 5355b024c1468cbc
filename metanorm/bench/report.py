"""Results of a benchmark: as data, and as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import geometric_mean

from pydantic import BaseModel, ConfigDict
from rich.table import Column, Table

PHASES = ("forward", "backward", "both")
COLUMNS = (*PHASES, "peak", "saved")
OURS = "metanorm"
# Sizes in bytes that a summary tells apart: from, below, and what they are called.
SIZES: Mapping[str, tuple[int, float]] = {
    "inputs of 1 MB and more": (10**6, float("inf")),
    "inputs between": (65_537, 10**6),
    "inputs up to 64 KB": (0, 65_537),
}


class Model(BaseModel):
    """Unchangeable, and without fields of another version."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Machine(Model):
    """Where the times were taken."""

    processor: str
    threads: int
    torch: str
    metanorm: str


class Measurement(Model):
    """One candidate in one phase. Times are seconds for a call: median, and quarter points."""

    candidate: str
    phase: str
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

    def median(self, candidate: str, phase: str) -> float | None:
        """Seconds, or `None` where that was not measured."""
        return next(
            (m.median for m in self.measurements if (m.candidate, m.phase) == (candidate, phase)),
            None,
        )


class Report(Model):
    """A whole run."""

    machine: Machine
    entries: tuple[Entry, ...]


def table_of(report: Report) -> Table:
    """One row for each candidate: times and bytes in copies of the input.

    Those that could not run have a row, too; why is told by `left_out`.
    """
    table = Table("norm", "input", *(Column(c, no_wrap=True) for c in ("candidate", *COLUMNS)))
    for entry in report.entries:
        label = (entry.norm, entry.workload)
        for candidate in dict.fromkeys(m.candidate for m in entry.measurements):
            times = (entry.median(candidate, phase) for phase in PHASES)
            shown = ("" if t is None else f"{t / entry.copy_seconds:.3g}" for t in times)
            table.add_row(*label, candidate, *shown, *_bytes(entry, candidate))
            label = ("", f"copy: {_time(entry.copy_seconds)}" if label[0] else "")
        for reason in entry.left_out:
            table.add_row(*label, reason.partition(": ")[0], "left out")
            label = ("", "")
        table.add_section()
    return table


def place(machine: Machine) -> str:
    """A machine in words."""
    versions = f"torch {machine.torch}, metanorm {machine.metanorm}"
    return f"{machine.processor}, {machine.threads} threads, {versions}"


def left_out(report: Report) -> Iterator[str]:
    """A line for each candidate that could not run."""
    for entry in report.entries:
        for reason in entry.left_out:
            yield f"left out of {entry.norm}, {entry.workload}: {reason}"


def summary(report: Report) -> Iterator[str]:
    """How fast norms are beside each other candidate, forward and backward, by size of the input:
    the geometric mean of all ratios, and the one that is least in our favour."""
    others = {m.candidate for e in report.entries for m in e.measurements} - {OURS}
    for other in sorted(others):
        for sizes, (least, below) in SIZES.items():
            ratios: dict[str, float] = {}
            for entry in report.entries:
                ours, theirs = entry.median(OURS, "both"), entry.median(other, "both")
                if ours and theirs and least <= entry.nbytes < below:
                    ratios[f"{entry.norm}, {entry.workload}"] = theirs / ours
            if ratios:
                worst = min(ratios, key=lambda name: ratios[name])
                yield (
                    f"{geometric_mean(ratios.values()):.2f} times as fast as {other} "
                    f"({len(ratios)} {sizes}), at least {ratios[worst]:.2f} times ({worst})"
                )


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


def _bytes(entry: Entry, candidate: str) -> tuple[str, str]:
    for found in entry.footprints:
        if found.candidate == candidate:
            return f"{found.peak / entry.nbytes:.2f}", f"{found.saved / entry.nbytes:.2f}"
    return "", ""


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.2f} us"
