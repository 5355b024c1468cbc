"""A benchmark in a few lines: how fast norms are beside each other candidate, and the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import geometric_mean

from metanorm.bench.report import OURS, PHASES, Entry, Report

# Sizes in bytes that are told apart, on the CPU and on a GPU: from, below, and how they are called.
SizeRanges = Mapping[str, tuple[float, float]]
CPU_SIZES: SizeRanges = {
    "inputs of 1 MB and more": (10**6, float("inf")),
    "inputs between": (65_537, 10**6),
    "inputs up to 64 KB": (0, 65_537),
}
GPU_SIZES: SizeRanges = {
    "inputs of 64 MB and more": (64 * 10**6, float("inf")),
    "inputs between": (10**6, 64 * 10**6),
    "inputs below 1 MB": (0, 10**6),
}


def summary(report: Report) -> Iterator[str]:
    """By size of the input the geometric mean of all ratios, and the one that is least in our
    favour: for both directions together, and on a GPU also for each, and beside the copy."""
    if not report.machine.gpu:
        yield from _speedup_lines(report, "both", CPU_SIZES, "")
        return
    for phase in PHASES:
        yield from _speedup_lines(report, phase, GPU_SIZES, f"{phase}: ")
        yield from _bandwidth_lines(report, phase)


def _speedup_lines(report: Report, phase: str, sizes: SizeRanges, title: str) -> Iterator[str]:
    others = {m.candidate for e in report.entries for m in e.measurements} - {OURS}
    for other in sorted(others):

        def ratio(entry: Entry, other: str = other) -> float | None:
            ours, theirs = entry.median(OURS, phase), entry.median(other, phase)
            return theirs / ours if ours and theirs else None

        for size, found in _by_size(report, sizes, ratio):
            worst = min(found, key=lambda name: found[name])
            yield (
                f"{title}{geometric_mean(found.values()):.2f} times as fast as {other} "
                f"({len(found)} {size}), at least {found[worst]:.2f} times ({worst})"
            )


def _bandwidth_lines(report: Report, phase: str) -> Iterator[str]:
    for size, found in _by_size(report, GPU_SIZES, lambda entry: entry.share(OURS, phase)):
        worst = min(found, key=lambda name: found[name])
        yield (
            f"{phase}: {geometric_mean(found.values()):.0%} of the bandwidth of the copy "
            f"({len(found)} {size}), at least {found[worst]:.0%} ({worst})"
        )


def _by_size(
    report: Report, sizes: SizeRanges, figure: Callable[[Entry], float | None]
) -> Iterator[tuple[str, dict[str, float]]]:
    """A figure of each entry by its name, for every size that has some."""
    for size, (least, below) in sizes.items():
        within = [entry for entry in report.entries if least <= entry.nbytes < below]
        named = {f"{entry.norm}, {entry.workload}": figure(entry) for entry in within}
        found = {name: value for name, value in named.items() if value is not None}
        if found:
            yield size, found
