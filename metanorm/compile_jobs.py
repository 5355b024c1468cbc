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
    """Back ends that compile up to `jobs` specs at a time, each in a process."""

    def back_ends(
        checked: Checked, sources: Mapping[str, Source], roots: Sequence[str], options: Options
    ) -> Iterator[tuple[str, BackEndOutput]]:
        sources_of = {root: {name: sources[name] for name in checked.reads[root]} for root in roots}
        largest_first = sorted(roots, key=lambda root: -len(sources[root].text))
        with ProcessPoolExecutor(min(jobs, len(roots)) or 1, mp_context=_context()) as pool:
            tasks = {pool.submit(_compile_one, sources_of[r], r, options): r for r in largest_first}
            for task in as_completed(tasks):
                root = tasks[task]
                try:
                    yield root, task.result()
                except BrokenProcessPool as error:
                    yield root, _process_failure(sources[root], error)

    return back_ends


def _context() -> multiprocessing.context.BaseContext:
    """A fork server, which imports the compiler once and forks without threads; else `spawn`."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["metanorm.driver"])
    return context


def _compile_one(sources: Mapping[str, Source], root: str, options: Options) -> BackEndOutput:
    """Compile one spec in this process.

    The spec is checked again, which takes milliseconds: a checked norm is large, and valid in the
    process that checked it alone.
    """
    result = compile_specs(sources, [root], options)
    failures = tuple(d for d in result.diagnostics if d.code == INTERNAL)
    return result.units.get(root), failures


def _process_failure(source: Source, error: BrokenProcessPool) -> BackEndOutput:
    """The output for a spec whose process was killed."""
    problems = Collector()
    location = f"a process of {os.path.basename(__file__)}"
    problems.add(CompilerFailed(source.span(0, 0), str(error), location))
    return None, problems.sorted()
