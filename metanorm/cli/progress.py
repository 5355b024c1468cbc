"""A progress bar on a terminal, for runs that take longer than a second."""

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

DELAY = 1.0  # seconds before the bar appears


class ProgressBar:
    """A progress bar on standard error; nothing if that is no terminal."""

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
        """Name the current task beside the bar."""
        self._progress.update(self._task, description=visible(name))
        if not self._shown and time.monotonic() - self._started > DELAY:
            self._shown = True
            self._progress.start()

    def done(self, write: Callable[[], None] | None = None) -> None:
        """Count one more task as done. Hides the bar while `write` prints."""
        self._progress.advance(self._task)
        if write is None:
            return
        was_shown = self._shown
        self._hide()
        write()
        if was_shown:
            self._shown = True
            self._progress.start()

    def _hide(self) -> None:
        if self._shown:
            self._progress.stop()
            self._shown = False


def with_progress(back_ends: BackEnds) -> BackEnds:
    """The same back ends with a progress bar, which names the spec that was compiled last."""

    def with_bar(
        checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
    ) -> Iterator[tuple[str, BackEndOutput]]:
        with ProgressBar(len(roots)) as bar:
            for root, output in back_ends(checked, sources, roots, options):
                bar.done()
                bar.at(root)
                yield root, output

    return with_bar
