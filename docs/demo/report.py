"""The table at the end, and the sentences that go with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experiment import Experiment, Result, Run
from rich import box
from rich.table import Table
from torch import Tensor


def table(experiment: Experiment, results: list[Result]) -> Table:
    """A row for each variant: means over the seeds, with standard deviations.

    Percentages are right answers, the loss is that of the last training epoch.
    """
    shown = Table(
        title=experiment.title,
        caption=same_function(experiment, results),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
    )
    shown.add_column("norm", no_wrap=True)
    sets = [f"{name}, %" for name in ("held out", *experiment.changed)]
    for heading in (*sets, "loss", "parameters"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for result in results:
        changed = [_percent(result, _changed(name)) for name in experiment.changed]
        shown.add_row(
            result.name,
            _percent(result, lambda run: run.accuracies[-1]),
            *changed,
            f"{result.mean(lambda run: run.losses[-1]):.4f}",
            f"{result.runs[0].parameters:,}",
        )
    return shown


def _changed(name: str) -> Callable[[Run], float]:
    return lambda run: run.changed[name]


def _percent(result: Result, of: Callable[[Run], float]) -> str:
    mean = f"{100 * result.mean(of):.1f}"
    return mean if len(result.runs) == 1 else f"{mean} ± {100 * result.spread(of):.1f}"


def same_function(experiment: Experiment, results: list[Result]) -> str:
    """How far the curves of a generated norm and of torch's own are apart, at their farthest."""
    ours, theirs = (
        next(result for result in results if result.name == name) for name in experiment.same
    )
    accuracy = 100 * _farthest(ours, theirs, lambda run: run.accuracies)
    loss = _farthest(ours, theirs, lambda run: run.losses)
    accuracies = f"within {accuracy:.1f} points" if accuracy else "equal"
    losses = f"within {loss:.0e}" if loss else "equal"
    return (
        f"Generated {ours.name} and {theirs.name}, from the same weights:\n"
        f"after every epoch accuracies {accuracies}, losses {losses}."
    )


def _farthest(ours: Result, theirs: Result, curve: Callable[[Run], list[float]]) -> float:
    return max(
        abs(mine - other)
        for a, b in zip(ours.runs, theirs.runs)
        for mine, other in zip(curve(a), curve(b))
    )


def shares(learned: Iterable[Tensor]) -> str:
    """The range of BlendNorm's shares in each layer; all of them start at 0.5."""
    ranges = ", ".join(f"{share.min():.2f} to {share.max():.2f}" for share in learned)
    return f"The batch's share in BlendNorm's pools, first layer to last: {ranges} (from 0.50)."
