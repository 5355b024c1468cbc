"""Measures norms among processes on one machine, started for it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import multiprocessing

from metanorm.bench.cases import ACTIVATION
from metanorm.bench.library import CompiledSpecs
from metanorm.bench.processes.member import PACKAGE, Job, work
from metanorm.bench.processes.report import ProcessEntry
from metanorm.bench.processes.rows import WORKLOADS
from metanorm.bench.workload import workloads
from metanorm.module_names import module_name

POLL = 0.1  # seconds that a process is waited for before results are read


@dataclass(frozen=True)
class Plan:
    """How to measure: on how many processes, with how many threads each; inputs whose name
    contains `only`; with `named`, only these norms."""

    processes: int
    rounds: int
    only: str = ""
    threads: int | None = None
    named: Sequence[str] = ()


def measure_processes(specs: CompiledSpecs, plan: Plan) -> Iterator[ProcessEntry]:
    """Measure each norm of these specs, on every workload that fits it.

    Raises what a process raises, as `torch.multiprocessing.ProcessRaisedException`.
    """
    jobs = list(_jobs(specs, plan))
    if not jobs:
        return
    threads = plan.threads or max(1, torch.get_num_threads() // plan.processes)
    with tempfile.TemporaryDirectory() as folder:
        _write_package(Path(folder) / PACKAGE, specs.files)
        results = multiprocessing.get_context("spawn").Queue()
        arguments = (plan.processes, folder, jobs, plan.rounds, threads, results)
        spawn: Any = multiprocessing.spawn  # type: ignore[attr-defined]
        processes = spawn(work, arguments, plan.processes, join=False)
        received = 0
        while received < len(jobs):
            has_ended = processes.join(timeout=POLL)
            while received < len(jobs) and (has_ended or not results.empty()):
                received += 1
                yield results.get()
        while not processes.join():
            pass


def _jobs(specs: CompiledSpecs, plan: Plan) -> Iterator[Job]:
    for root in specs.roots:
        for norm in specs.checked.norms[root]:
            name = norm.program.name
            if norm.program.target != ACTIVATION or (plan.named and name not in plan.named):
                continue
            for workload, example in workloads(norm.program, plan.only, WORKLOADS):
                yield Job(module_name(root), name, workload.name, example, workload.dtype)


def _write_package(folder: Path, files: Mapping[str, str]) -> None:
    """Write generated modules where all processes import them from."""
    folder.mkdir()
    (folder / "__init__.py").touch()
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
