"""The back end in several processes: each takes one spec after the other, the largest first."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from metanorm.diagnostics.collector import Collector
from metanorm.diagnostics.internal import CompilerFailed
from metanorm.diagnostics.model import INTERNAL
from metanorm.driver import BackEndOutput, BackEnds, compile_specs
from metanorm.frontend import Checked
from metanorm.options import Options
from metanorm.source import Source


def compile_in_processes(jobs: int) -> BackEnds:
    """What runs the back end on so many specs at a time."""

    def back_ends(
        checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
    ) -> Iterator[tuple[str, BackEndOutput]]:
        behind = {root: {name: sources[name] for name in checked.reads[root]} for root in roots}
        largest_first = sorted(roots, key=lambda root: -len(sources[root].text))
        with ProcessPoolExecutor(min(jobs, len(roots)) or 1, mp_context=_context()) as pool:
            tasks = {pool.submit(_compile_one, behind[r], r, options): r for r in largest_first}
            for task in as_completed(tasks):
                root = tasks[task]
                try:
                    yield root, task.result()
                except BrokenProcessPool as error:
                    yield root, _process_failure(sources[root], error)

    return back_ends


def _context() -> multiprocessing.context.BaseContext:
    """A server that forks: no threads are copied half alive, and it imports the compiler once."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["metanorm.driver"])
    return context


def _compile_one(sources: Mapping[str, Source], root: str, options: Options) -> BackEndOutput:
    """The unit of a spec that has been checked. It is checked again, in a few milliseconds: what
    is known about a norm is large, and means what it means in its own process alone."""
    result = compile_specs(sources, [root], options)
    found = tuple(d for d in result.diagnostics if d.code == INTERNAL)
    return result.units.get(root), found


def _process_failure(source: Source, error: BrokenProcessPool) -> BackEndOutput:
    """What to report where a process was killed."""
    problems = Collector()
    place = f"a process of {os.path.basename(__file__)}"
    problems.add(CompilerFailed(source.span(0, 0), str(error), place))
    return None, problems.sorted()
