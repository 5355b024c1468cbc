"""Learning curves as a picture."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from experiment import Experiment, Result, Run
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

# Okabe and Ito's colours, which people with any colour vision tell apart. A norm keeps its own.
COLOURS = {
    "BatchNorm": "#0072b2",
    "GroupNorm": "#e69f00",
    "SwitchNorm": "#009e73",
    "BlendNorm": "#d55e00",
    "GraphNorm": "#cc79a7",
    "no norm": "#56b4e9",
    "degrees only": "#999999",
}
# Torch's own norm is dashed and on top, so that the curve it coincides with shows through.
REFERENCE: dict[str, Any] = {
    "color": "black",
    "linestyle": (0, (2, 3)),
    "linewidth": 1.2,
    "zorder": 3,
}


def draw(experiments: list[tuple[Experiment, list[Result]]], path: Path) -> None:
    """A column for each experiment: training loss above, held-out errors below."""
    figure = Figure(figsize=(6 * len(experiments), 7.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory: there may be no screen
    panels = figure.subplots(2, len(experiments), squeeze=False, sharex="col")
    for (above, below), (experiment, results) in zip(panels.T, experiments):
        for result in results:
            _curve(above, result, lambda run: run.losses)
            _curve(below, result, lambda run: [1 - right for right in run.accuracies])
        above.set_title(experiment.title, loc="left")
        above.set_ylabel("training loss")
        above.legend(frameon=False)
        below.set_ylabel("wrong answers, held out")
        below.set_xlabel("epoch")
        below.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        below.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        below.yaxis.set_minor_formatter(NullFormatter())
    seeds = len(experiments[0][1][0].runs)
    if seeds > 1:
        note = f"lines: means over {seeds} seeds; bands: smallest to largest"
        figure.supxlabel(note, fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=120)


def _curve(axes: Axes, result: Result, of: Callable[[Run], list[float]]) -> None:
    values = torch.tensor([of(run) for run in result.runs], dtype=torch.float64)
    epochs = range(1, values.shape[1] + 1)
    colour = COLOURS.get(result.name)
    style = REFERENCE if colour is None else {"color": colour, "linewidth": 2}
    # A single epoch is a point, which a line alone would not show.
    marker = "o" if values.shape[1] == 1 else ""
    axes.plot(epochs, values.mean(0), label=result.name, marker=marker, **style)
    if colour is not None:
        low, high = values.amin(0), values.amax(0)
        axes.fill_between(epochs, low, high, color=colour, alpha=0.15, linewidth=0)
    axes.set_yscale("log")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
