"""The summary of a benchmark: the speed of norms relative to other candidates and the copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from statistics import geometric_mean

from metanorm.bench.report import OURS, PHASES, Entry, Report

# Ranges of sizes in bytes by description: from, and below.
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
    """For each range of sizes, the geometric mean of all ratios and the worst one: for both
    directions together, and on a GPU also for each direction, and beside the copy."""
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

        for size, ratios in _by_size(report, sizes, ratio):
            worst = min(ratios, key=lambda name: ratios[name])
            yield (
                f"{title}{geometric_mean(ratios.values()):.2f} times as fast as {other} "
                f"({len(ratios)} {size}), at least {ratios[worst]:.2f} times ({worst})"
            )


def _bandwidth_lines(report: Report, phase: str) -> Iterator[str]:
    for size, shares in _by_size(report, GPU_SIZES, lambda entry: entry.share(OURS, phase)):
        worst = min(shares, key=lambda name: shares[name])
        yield (
            f"{phase}: {geometric_mean(shares.values()):.0%} of the bandwidth of the copy "
            f"({len(shares)} {size}), at least {shares[worst]:.0%} ({worst})"
        )


def _by_size(
    report: Report, sizes: SizeRanges, figure: Callable[[Entry], float | None]
) -> Iterator[tuple[str, dict[str, float]]]:
    """A figure of each entry by name, for every range of sizes that has entries."""
    for size, (lower, upper) in sizes.items():
        within = [entry for entry in report.entries if lower <= entry.nbytes < upper]
        figure_by_name = {f"{entry.norm}, {entry.workload}": figure(entry) for entry in within}
        figures = {name: value for name, value in figure_by_name.items() if value is not None}
        if figures:
            yield size, figures
