"""Draws a benchmark: a group of bars for each norm and input, and the least that any norm takes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from metanorm.bench.report import PHASES, TENSORS_OF_A_COPY, Entry, Report, machine_text

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
OTHER = "#444444"  # of a candidate that has no colour of its own
FLOOR = "the least: a copy's speed"
GROUP = 0.8  # of the room of a group that its bars take


def draw(report: Report, path: Path) -> None:
    """Write the chart as a PNG."""
    figure_of(report).savefig(path, format="png", dpi=120)


def figure_of(report: Report) -> Figure:
    """The chart, with a panel for each phase. Times are in copies of the input.

    The floor is what a phase must read and write, at the speed of the copy.
    """
    entries = [entry for entry in report.entries if entry.measurements]
    candidates = _candidates(entries)
    height = 1.8 + 0.22 * max(1, len(entries)) * max(3, len(candidates))
    figure = Figure(figsize=(4.2 * len(PHASES), height), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory: there may be no screen
    panels = figure.subplots(1, len(PHASES), sharey=True, squeeze=False)[0]
    for panel, phase in zip(panels, PHASES):
        _panel(panel, entries, candidates, phase)
    first = panels[0]
    first.set_yticks(range(len(entries)), [f"{e.norm}\n{e.workload}" for e in entries])
    first.tick_params(axis="y", labelsize="small", length=0)
    first.invert_yaxis()
    handles, labels = first.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    figure.suptitle(machine_text(report.machine), fontsize="small", x=0.01, ha="left")
    return figure


def _candidates(entries: Sequence[Entry]) -> list[str]:
    """All that was timed: those with a colour in the order of the colours, then the others."""
    timed = {m.candidate for entry in entries for m in entry.measurements}
    return [c for c in COLOURS if c in timed] + sorted(timed - COLOURS.keys())


def _panel(axes: Axes, entries: Sequence[Entry], candidates: Sequence[str], phase: str) -> None:
    thickness = GROUP / max(1, len(candidates))
    for rank, candidate in enumerate(candidates):
        offset = (rank - (len(candidates) - 1) / 2) * thickness
        rows = [
            (place + offset, m.low / e.copy_seconds, m.median / e.copy_seconds,
             m.high / e.copy_seconds)
            for place, e in enumerate(entries)
            if (m := e.measurement(candidate, phase)) is not None
        ]  # fmt: skip
        if not rows:
            axes.barh([0], [0], label=candidate, color=COLOURS.get(candidate, OTHER))
            continue
        places, lows, medians, highs = (list(column) for column in zip(*rows))
        quarters = [
            [max(0.0, m - low) for m, low in zip(medians, lows)],
            [max(0.0, high - m) for m, high in zip(medians, highs)],
        ]
        axes.barh(places, medians, thickness * 0.92, xerr=quarters, label=candidate,
                  color=COLOURS.get(candidate, OTHER), error_kw={"elinewidth": 0.8})  # fmt: skip
    floor = PHASES[phase] / TENSORS_OF_A_COPY
    axes.axvline(floor, color="black", linewidth=1.2, linestyle=(0, (4, 2)), label=FLOOR)
    axes.set_xscale("log")
    axes.set_title(phase, loc="left", fontsize="medium")
    axes.set_xlabel("time, in copies of the input")
    axes.grid(axis="x", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
