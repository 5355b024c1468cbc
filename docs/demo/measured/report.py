"""The text and the picture of a measurement."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from measured.effect import Effect, Measurement

# Okabe and Ito's colours, which people with any colour vision tell apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7")
WIDTH = 11  # columns of a number with its error


def text(title: str, effect: Effect, measurement: Measurement, seeds: int) -> str:
    """What was measured on what, a table of means and standard errors, and what follows."""
    lines = [title, "", f"source: {effect.source}", f"data:   {effect.data}", ""]
    first = max(len(measurement.x_label), *(len(_place(x)) for x in measurement.x)) + 2
    widths = [max(WIDTH + 4, len(series.name) + 2) for series in measurement.series]
    heads = "".join(s.name.rjust(w) for s, w in zip(measurement.series, widths))
    lines += [f"{measurement.y_label}; means and standard errors over {seeds} seeds", ""]
    lines.append(f"{measurement.x_label.ljust(first)}{heads}")
    for place, x in enumerate(measurement.x):
        cells = (f"{s.mean(place):.3g} ± {s.error(place):.2g}" for s in measurement.series)
        numbers = "".join(cell.rjust(w) for cell, w in zip(cells, widths))
        lines.append(f"{_place(x).ljust(first)}{numbers}")
    lines += ["", *(finding.text() for finding in measurement.findings)]
    return "".join(f"{line}\n" for line in lines)


def _place(x: str | float) -> str:
    return x if isinstance(x, str) else f"{x:g}"


def draw(title: str, measurement: Measurement, seeds: int, path: Path) -> None:
    """Lines with error bars; bars side by side where the x axis has names."""
    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    FigureCanvasAgg(figure)  # draws into memory: there may be no screen
    axes = figure.subplots()
    named = isinstance(measurement.x[0], str)
    places = list(range(len(measurement.x)))
    for number, (series, colour) in enumerate(zip(measurement.series, COLOURS)):
        means, errors = [series.mean(p) for p in places], [series.error(p) for p in places]
        if named:
            width = 0.8 / len(measurement.series)
            at = [p + (number - (len(measurement.series) - 1) / 2) * width for p in places]
            axes.bar(at, means, width, yerr=errors, color=colour, label=series.name, capsize=2)
        else:
            axes.errorbar(places, means, errors, color=colour, label=series.name, capsize=3,
                          marker="o", markersize=3)  # fmt: skip
    axes.set_xticks(places, [_place(x) for x in measurement.x])
    axes.set_yscale("log" if measurement.log_y else "linear")
    axes.set_xlabel(measurement.x_label)
    axes.set_ylabel(measurement.y_label)
    axes.set_title(f"{title}\nmeans and standard errors over {seeds} seeds", loc="left", fontsize=9)
    axes.grid(axis="y", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="png", dpi=100)
