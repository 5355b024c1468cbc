"""The table of norms beside layers written by hand."""

from __future__ import annotations

from rich.table import Column, Table

from metanorm.bench.by_hand.report import PHASES, HandEntry, HandReport
from metanorm.bench.candidates import ON_TORCH
from metanorm.bench.report import OURS, machine_text

RUNS_ON = {OURS: "kernels", ON_TORCH: "torch"}


def table_of(report: HandReport) -> Table:
    """A row for each other layer: milliseconds of ours and theirs, and our speedup, for the forward
    pass and for both directions."""
    titles = ["norm", "input", "on", "beside"]
    for phase in PHASES:
        titles += [f"{phase}, ms", "as fast"]
    columns = (Column(title, no_wrap=title != "input") for title in titles)
    table = Table(*columns, title=machine_text(report.machine))
    for entry in report.entries:
        head = (entry.norm, entry.workload, RUNS_ON[entry.ours])
        for beside in dict.fromkeys(c.beside for c in entry.comparisons):
            cells = [cell for phase in PHASES for cell in _cells(entry, beside, phase)]
            table.add_row(*head, beside, *cells)
            head = ("", "", "")
        for reason in entry.left_out:
            table.add_row(*head, reason.partition(": ")[0], "left out")
            head = ("", "", "")
        table.add_section()
    return table


def _cells(entry: HandEntry, beside: str, phase: str) -> tuple[str, str]:
    ours, theirs = entry.seconds(entry.ours, phase), entry.seconds(beside, phase)
    if ours is None or theirs is None:
        return "", ""
    (ratio,) = (c.ratio for c in entry.comparisons if (c.beside, c.phase) == (beside, phase))
    return f"{ours / 1e-3:.3g} / {theirs / 1e-3:.3g}", f"{ratio.median:.2f}x"
