"""Compiled specs that the workers of a test run share: what one has compiled, the others read."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from metanorm.driver import BackEndOutput, BackEnds, compile_in_turn
from metanorm.frontend import Checked
from metanorm.module_names import module_name
from metanorm.options import Options
from metanorm.source import Source


def worker_number() -> int | None:
    """Which worker of pytest-xdist this is; `None` where there are none."""
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    return None if worker is None else int(worker.removeprefix("gw"))


def back_ends_sharing(folder: Path) -> BackEnds:
    """A back end that keeps its output in a folder.

    Every other worker begins at the last spec, so that two that begin together meet in the middle.
    """

    def back_ends(
        checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
    ) -> Iterator[tuple[str, BackEndOutput]]:
        number = worker_number() or 0
        for root in roots if number % 2 == 0 else reversed(roots):
            entry = folder / f"{module_name(root)}.pickle"
            if not entry.exists():
                ((_, output),) = compile_in_turn(checked, sources, [root], options)
                temporary = entry.with_suffix(f".{number}")
                temporary.write_bytes(pickle.dumps(output))
                temporary.replace(entry)  # at once, so that no worker reads half of it
            yield root, pickle.loads(entry.read_bytes())

    return back_ends
