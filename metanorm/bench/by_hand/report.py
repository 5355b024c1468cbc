"""The report of norms beside layers written by hand, as data and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import geometric_mean

from metanorm.bench.report import OURS, Machine, Measurement, Model, Ratio

PHASES = ("forward", "both")
GOAL = 2.0  # speedup over the quickest other layer, for both directions


class Comparison(Model):
    """The speedup of a norm over another layer in a phase, as a ratio round by round."""

    beside: str
    phase: str
    ratio: Ratio


class HandEntry(Model):
    """One norm on one input. `ours` is `metanorm`, or `plain torch` where no kernels serve it, for
    the reason in `why`."""

    norm: str
    workload: str
    ours: str
    why: str
    measurements: tuple[Measurement, ...]
    comparisons: tuple[Comparison, ...]
    left_out: tuple[str, ...] = ()

    def seconds(self, candidate: str, phase: str) -> float | None:
        """The median seconds of a call, or `None` if it was not measured."""
        matching = (
            m.median for m in self.measurements if (m.candidate, m.phase) == (candidate, phase)
        )
        return next(matching, None)

    def against_quickest(self, phase: str) -> Comparison | None:
        """The comparison with the quickest other layer, or `None` without any."""
        comparisons = [c for c in self.comparisons if c.phase == phase]
        return min(comparisons, key=lambda c: c.ratio.median, default=None)


class HandReport(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    rounds: int
    entries: tuple[HandEntry, ...]


def summary_lines(report: HandReport) -> Iterator[str]:
    """What was left out and why, which norms have no kernels, and speedups over the quickest."""
    for entry in report.entries:
        name = f"{entry.norm}, {entry.workload}"
        if entry.ours != OURS:
            yield f"{name}: on {entry.ours}, without kernels: {entry.why}"
        for reason in entry.left_out:
            yield f"left out of {name}: {reason}"
    for phase in PHASES:
        comparisons = _quickest_by_input(report, phase)
        if comparisons:
            worst = min(comparisons, key=lambda name: comparisons[name].ratio.median)
            mean = geometric_mean(c.ratio.median for c in comparisons.values())
            yield (
                f"{phase}: {mean:.2f} times as fast as the quickest other "
                f"({len(comparisons)} inputs), at least "
                f"{comparisons[worst].ratio.median:.2f} times "
                f"({worst}, {comparisons[worst].beside})"
            )
    comparisons = _quickest_by_input(report, "both")
    short = [name for name, c in comparisons.items() if c.ratio.median < GOAL]
    if comparisons:
        reached = len(comparisons) - len(short)
        yield f"both: {reached} of {len(comparisons)} inputs at least {GOAL:g} times as fast"
    for name in short:
        yield f"below {GOAL:g} times: {name}: {comparisons[name].ratio.median:.2f}"


def _quickest_by_input(report: HandReport, phase: str) -> Mapping[str, Comparison]:
    """The comparison with the quickest other layer, by norm and workload."""
    by_input = {f"{e.norm}, {e.workload}": e.against_quickest(phase) for e in report.entries}
    return {name: comparison for name, comparison in by_input.items() if comparison is not None}
