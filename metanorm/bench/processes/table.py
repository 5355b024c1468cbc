"""The table of norms among processes."""

from __future__ import annotations

from rich.table import Table

from metanorm.bench.processes.report import PHASES, SYNCHRONIZED, ProcessEntry, ProcessReport
from metanorm.bench.report import machine_text


def table_of(report: ProcessReport) -> Table:
    """A row for each candidate: microseconds, and the share of the synchronized call."""
    title = f"{report.processes} processes, {machine_text(report.machine)}"
    table = Table("norm", "input of each", "us", *PHASES, "numbers sent", title=title)
    for entry in report.entries:
        names = dict.fromkeys(time.candidate for time in entry.times)
        for row, name in enumerate(names):
            head = ("", "") if row else (entry.norm, entry.workload)
            table.add_row(*head, name, *(_cell(entry, name, p) for p in PHASES), _sent(entry, name))
        table.add_section()
    return table


def _cell(entry: ProcessEntry, name: str, phase: str) -> str:
    time = entry.time(name, phase)
    share = "" if name == SYNCHRONIZED else f" ({time.share.median:.2f}x)"
    return f"{time.median / 1e-6:.1f}{share}"


def _sent(entry: ProcessEntry, name: str) -> str:
    if name != SYNCHRONIZED:
        return ""
    return "; ".join(" + ".join(map(str, entry.messages[phase])) for phase in PHASES)
