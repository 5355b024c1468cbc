"""The table of a benchmark."""

from __future__ import annotations

from rich.table import Column, Table

from metanorm.bench.fallback import RAN_ON_TORCH
from metanorm.bench.report import PHASES, Entry, Report, machine_text

LEFT_OUT = "left out"


def table_of(report: Report) -> Table:
    """A row for each candidate: times and bytes in units of the copy of the input. The row of the
    copy has seconds and bandwidth.

    On a GPU also the share of the bandwidth of the copy, and the time of the host for both
    directions. Candidates that could not run have a row; `left_out` says why.
    """
    on_gpu = bool(report.machine.gpu)
    columns = ("candidate", *PHASES, *(["host"] if on_gpu else []), "peak", "saved")
    table = Table(
        "norm",
        "input",
        *(Column(c, no_wrap=True) for c in columns),
        title=machine_text(report.machine),
    )
    for entry in report.entries:
        seconds, bandwidth = _time(entry.copy_seconds), f"{entry.bandwidth / 1e9:.3g} GB/s"
        table.add_row(entry.norm, entry.workload, "copy", seconds, bandwidth)
        for candidate in dict.fromkeys(m.candidate for m in entry.measurements):
            times = [_time_cell(entry, candidate, phase, on_gpu) for phase in PHASES]
            host = [_host(entry, candidate)] if on_gpu else []
            table.add_row("", "", candidate, *times, *host, *_bytes(entry, candidate))
        for reason in entry.left_out:
            name, _, why = reason.partition(": ")
            table.add_row("", "", name, RAN_ON_TORCH if why.startswith(RAN_ON_TORCH) else LEFT_OUT)
        table.add_section()
    return table


def _time_cell(entry: Entry, candidate: str, phase: str, shares: bool) -> str:
    """`1.05` copies, or on a GPU with the share of the bandwidth, `1.05 (95%)`."""
    seconds, share = entry.median(candidate, phase), entry.share(candidate, phase)
    if seconds is None or share is None:
        return ""
    copies = f"{seconds / entry.copy_seconds:.3g}"
    return f"{copies} ({share:.0%})" if shares else copies


def _host(entry: Entry, candidate: str) -> str:
    measurement = entry.measurement(candidate, "both")
    return "" if measurement is None or measurement.host is None else _time(measurement.host)


def _bytes(entry: Entry, candidate: str) -> tuple[str, str]:
    for footprint in entry.footprints:
        if footprint.candidate == candidate:
            return f"{footprint.peak / entry.nbytes:.2f}", f"{footprint.saved / entry.nbytes:.2f}"
    return "", ""


def _time(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds / 1e-6:.2f} us"
