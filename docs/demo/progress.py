"""What is seen while networks train: bars on a terminal, a line for each network elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from experiment import Experiment, Result, Run, Variant, train
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn


def train_all(experiment: Experiment, seeds: int, console: Console) -> list[Result]:
    """Train every variant once for each seed."""
    console.print(f"\n[bold]{experiment.title}[/bold]")
    console.print(f"epochs: {experiment.epochs}, seeds: {seeds}", highlight=False)
    columns = (
        TextColumn("  {task.description:<15}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[news]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:
        tasks = [
            bars.add_task(variant.name, start=False, total=seeds * experiment.epochs, news="")
            for variant in experiment.variants
        ]
        return [
            _train_one(experiment, variant, range(seeds), bars, task)
            for variant, task in zip(experiment.variants, tasks)
        ]


def _train_one(
    experiment: Experiment, variant: Variant, seeds: Iterable[int], bars: Progress, task: TaskID
) -> Result:
    bars.start_task(task)
    after_epoch = _advance(bars, task)
    result = Result(variant.name, [train(experiment, variant, seed, after_epoch) for seed in seeds])
    news = f"{result.mean(lambda run: run.accuracies[-1]):.1%} held out"
    bars.update(task, news=news)
    if not bars.console.is_terminal:
        bars.console.print(f"  {variant.name:<15} {news}", highlight=False)
    return result


def _advance(bars: Progress, task: TaskID) -> Callable[[Run], None]:
    def after_epoch(run: Run) -> None:
        bars.update(task, advance=1, news=f"{run.accuracies[-1]:.1%} held out")

    return after_epoch
