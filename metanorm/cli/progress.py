"""How far a run has come: a line on a terminal, for what takes longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from metanorm.driver import BackEndOutput, BackEnds
from metanorm.frontend import Checked
from metanorm.options import Options
from metanorm.source import Source
from metanorm.visible import visible

DELAY = 1.0  # seconds


class ProgressBar:
    """A bar with a name, on standard error where that is a terminal; else nothing."""

    def __init__(self, total: int) -> None:
        self._started = time.monotonic()
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(stderr=True, highlight=False),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=total)
        self._shown = False

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._hide()

    def at(self, name: str) -> None:
        """Say what is at work."""
        self._progress.update(self._task, description=visible(name))
        if not self._shown and time.monotonic() - self._started > DELAY:
            self._shown = True
            self._progress.start()

    def done(self, write: Callable[[], None] | None = None) -> None:
        """Count one more as done, and write what there is to say, where the bar is out of its
        way."""
        self._progress.advance(self._task)
        if write is None:
            return
        shown = self._shown
        self._hide()
        write()
        if shown:
            self._shown = True
            self._progress.start()

    def _hide(self) -> None:
        if self._shown:
            self._progress.stop()
            self._shown = False


def with_progress(back_ends: BackEnds) -> BackEnds:
    """The same with a bar, which names the spec that was compiled last."""

    def with_bar(
        checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
    ) -> Iterator[tuple[str, BackEndOutput]]:
        with ProgressBar(len(roots)) as running:
            for root, made in back_ends(checked, sources, roots, options):
                running.done()
                running.at(root)
                yield root, made

    return with_bar
