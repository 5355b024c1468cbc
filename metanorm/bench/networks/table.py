"""The table of networks with norms of two origins."""

from __future__ import annotations

from rich.table import Column, Table

from metanorm.bench.networks.report import NetworkEntry, NetworkReport
from metanorm.bench.report import OURS, machine_text


def table_of(report: NetworkReport) -> Table:
    """A row for each network and phase: milliseconds, and their ratio with quartiles."""
    columns = ("phase", OURS, "beside", "ratio", "quartiles")
    table = Table(
        "network",
        "norm",
        *(Column(c, no_wrap=True) for c in columns),
        title=machine_text(report.machine),
    )
    last_head = ("", "")
    for entry in report.entries:
        head = (entry.network, entry.norm)
        if head != last_head:
            table.add_section()
        ratio = entry.ratio
        table.add_row(
            *(head if head != last_head else ("", "")),
            entry.phase,
            _milliseconds(entry, OURS),
            f"{_milliseconds(entry, entry.beside)} {entry.beside}",
            f"{ratio.median:.2f}x",
            f"{ratio.low:.2f} to {ratio.high:.2f}",
        )
        last_head = head
    return table


def _milliseconds(entry: NetworkEntry, candidate: str) -> str:
    median = next(m.median for m in entry.measurements if m.candidate == candidate)
    return f"{median / 1e-3:.2f} ms"
