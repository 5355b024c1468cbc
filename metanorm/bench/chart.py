"""Draws a benchmark: a group of bars for each norm and input."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metanorm.bench.report import Report

# The colours of Okabe and Ito, which are distinct for any colour vision.
COLOURS = {
    "metanorm": "#0072b2",
    "plain torch": "#56b4e9",
    "torch.nn": "#e69f00",
    "PyG": "#cc79a7",
    "Liger": "#d55e00",
    "QuACK": "#f0e442",
    "equations": "#999999",
    "torch.compile": "#009e73",
}


def draw(report: Report, path: Path, phase: str = "both") -> None:
    """Write a PNG with the times of a phase, in copies of the input."""
    entries = [entry for entry in report.entries if entry.measurements]
    figure = Figure(figsize=(9, 1.5 + 0.75 * max(1, len(entries))), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory: there may be no screen
    axes = figure.subplots()
    thickness = 0.8 / len(COLOURS)
    for rank, (candidate, colour) in enumerate(COLOURS.items()):
        times = [(i, e.median(candidate, phase), e.copy_seconds) for i, e in enumerate(entries)]
        bars = [(i + rank * thickness, t / copy) for i, t, copy in times if t is not None]
        if bars:
            positions, lengths = zip(*bars)
            axes.barh(positions, lengths, thickness, color=colour, label=candidate)
    axes.set_yticks([i + 0.3 for i in range(len(entries))])
    axes.set_yticklabels([f"{e.norm}\n{e.workload}" for e in entries], fontsize="small")
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(f"{phase}: time, in copies of the input")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, format="png", dpi=120)
