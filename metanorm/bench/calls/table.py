"""The table of the parts of calls."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import geometric_mean

from rich.table import Column, Table

from metanorm.bench.calls.callees import DESCRIPTIONS, compiled_name
from metanorm.bench.calls.phases import PHASES
from metanorm.bench.calls.report import CallEntry, CallReport, CallTime
from metanorm.bench.report import OURS, machine_text


def table_of(report: CallReport) -> Table:
    """A row for each callee: microseconds in each phase, and their ratio to the layer of others."""
    names = [phase.name for phase in PHASES]
    table = Table(
        "norm",
        "input",
        *(Column(name, no_wrap=True) for name in ("us", *names)),
        title=machine_text(report.machine),
    )
    for entry in report.entries:
        for number, (callee, times) in enumerate(entry.by_callee.items()):
            head = ("", "") if number else (entry.norm, entry.workload)
            table.add_row(*head, callee, *(_cell(times.get(name), entry) for name in names))
        table.add_section()
    return table


def _cell(time: CallTime | None, entry: CallEntry) -> str:
    """`9.9 (0.85x)`."""
    if time is None:
        return ""
    microseconds = f"{time.median / 1e-6:.1f}"
    has_ratio = time.ratio is not None and time.callee not in (
        entry.beside,
        compiled_name(entry.beside),
    )
    return (
        f"{microseconds} ({time.ratio.median:.2f}x)" if has_ratio and time.ratio else microseconds
    )


def legend(report: CallReport) -> Iterator[str]:
    """The meaning of rows and columns, for the lines below the table."""
    callees = {callee for entry in report.entries for callee in entry.by_callee}
    for name, about in DESCRIPTIONS.items():
        if name in callees:
            yield f"{name}: {about}"
    for phase in PHASES:
        yield f"{phase.name}: {phase.about}"


def summary(report: CallReport) -> Iterator[str]:
    """For each phase the geometric mean of all ratios, and the worst one."""
    others = dict.fromkeys(entry.beside for entry in report.entries if entry.beside)
    for other in others:
        for phase in PHASES:
            ratios = dict(_ratios(report, other, phase.name))
            if ratios:
                worst = max(ratios, key=lambda name: ratios[name])
                yield (
                    f"{phase.name}: {geometric_mean(ratios.values()):.2f} times the time of "
                    f"{other} on average, at most {ratios[worst]:.2f} times ({worst})"
                )


def _ratios(report: CallReport, other: str, phase: str) -> Iterator[tuple[str, float]]:
    for entry in report.entries:
        time = entry.by_callee.get(OURS, {}).get(phase)
        if entry.beside == other and time is not None and time.ratio is not None:
            yield f"{entry.norm}, {entry.workload}", time.ratio.median


def left_out(report: CallReport) -> Iterator[str]:
    """A line for each callee that could not run."""
    for entry in report.entries:
        for line in entry.left_out:
            yield f"left out of {entry.norm}, {entry.workload}: {line}"
