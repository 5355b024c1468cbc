"""Norms beside what people write by hand, as data and in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from statistics import geometric_mean

from metanorm.bench.report import OURS, Machine, Measurement, Model, Ratio

PHASES = ("forward", "both")
GOAL = 2.0  # times as fast as the quickest other, in both directions


class Comparison(Model):
    """How many times as fast the norm is as one other layer in a phase, round by round."""

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
        """The median time of a call, or `None` where it was not measured."""
        named = (
            m.median for m in self.measurements if (m.candidate, m.phase) == (candidate, phase)
        )
        return next(named, None)

    def least(self, phase: str) -> Comparison | None:
        """The comparison with who is quickest, or `None` where there is nobody."""
        found = [c for c in self.comparisons if c.phase == phase]
        return min(found, key=lambda c: c.ratio.median, default=None)


class HandReport(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    rounds: int
    entries: tuple[HandEntry, ...]


def summary_lines(report: HandReport) -> Iterator[str]:
    """Who was left out and why, who has no kernels, and how fast norms are beside the quickest."""
    for entry in report.entries:
        name = f"{entry.norm}, {entry.workload}"
        if entry.ours != OURS:
            yield f"{name}: on {entry.ours}, without kernels: {entry.why}"
        for reason in entry.left_out:
            yield f"left out of {name}: {reason}"
    for phase in PHASES:
        found = _slowest_by_input(report, phase)
        if found:
            worst = min(found, key=lambda name: found[name].ratio.median)
            mean = geometric_mean(c.ratio.median for c in found.values())
            yield (
                f"{phase}: {mean:.2f} times as fast as the quickest other ({len(found)} inputs), "
                f"at least {found[worst].ratio.median:.2f} times ({worst}, {found[worst].beside})"
            )
    found = _slowest_by_input(report, "both")
    short = [name for name, c in found.items() if c.ratio.median < GOAL]
    if found:
        reached = len(found) - len(short)
        yield f"both: {reached} of {len(found)} inputs at least {GOAL:g} times as fast"
    for name in short:
        yield f"below {GOAL:g} times: {name}: {found[name].ratio.median:.2f}"


def _slowest_by_input(report: HandReport, phase: str) -> Mapping[str, Comparison]:
    """Beside the quickest other, by norm and input."""
    found = {f"{e.norm}, {e.workload}": e.least(phase) for e in report.entries}
    return {name: least for name, least in found.items() if least is not None}
