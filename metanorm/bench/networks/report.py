"""The report of networks with norms of two origins, as data."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import geometric_mean

from metanorm.bench.report import Machine, Measurement, Model, Ratio

TRAINING, INFERENCE = "training step", "inference"


class NetworkEntry(Model):
    """One network in one phase: seconds with generated norms and with the layers of others, and
    how many times as long it takes with ours, round by round."""

    network: str
    norm: str
    beside: str
    phase: str
    measurements: tuple[Measurement, ...]
    ratio: Ratio


class NetworkReport(Model):
    """A whole run."""

    schema_version: int = 1
    machine: Machine
    rounds: int
    entries: tuple[NetworkEntry, ...]
    left_out: tuple[str, ...] = ()


def summary(report: NetworkReport) -> Iterator[str]:
    """For each phase the geometric mean of all ratios, and the worst one."""
    for phase in dict.fromkeys(entry.phase for entry in report.entries):
        entries = [entry for entry in report.entries if entry.phase == phase]
        ratios = [entry.ratio.median for entry in entries]
        worst = max(entries, key=lambda entry: entry.ratio.median)
        yield (
            f"{phase}: with generated norms {geometric_mean(ratios):.2f} times the time "
            f"on average, at most {worst.ratio.median:.2f} times ({worst.network}, {worst.norm})"
        )
