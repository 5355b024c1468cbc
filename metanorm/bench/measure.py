"""Norms on workloads: times and memory of every candidate."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from metanorm.bench.candidates import Candidate, candidates
from metanorm.bench.clock import Prepare, time_together
from metanorm.bench.memory import peak_bytes, saved_bytes
from metanorm.bench.report import PHASES, Entry, Footprint, Machine, Measurement
from metanorm.bench.workload import Workload, workloads
from metanorm.driver import module_name
from metanorm.explain.fingerprint import fingerprint
from metanorm.explain.known import known_norms
from metanorm.frontend import Checked
from metanorm.passes.pipeline import optimize
from metanorm.targets.live import module_from_files
from metanorm.version import __version__
from metanorm.workspace import load_library


@dataclass(frozen=True)
class Plan:
    """How to measure: `only` inputs with this in their names, and `traced` candidates or not."""

    rounds: int = 15
    only: str = ""
    traced: bool = True
    threads: int | None = None


def measure_files(
    checked: Checked, files: Mapping[str, str], roots: Sequence[str], plan: Plan
) -> Iterator[Entry]:
    """Every norm for activations of these specs, on every workload that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    known = known_norms(load_library())
    for root in roots:
        module = module_from_files(files, module_name(root))
        for norm in checked.norms[root]:
            if norm.program.target != "activation":
                continue
            equal = known.get(fingerprint(optimize(norm.program)), "")
            for workload, built in workloads(norm.program, plan.only):
                layers = candidates(norm, module, equal, workload, built, plan.traced)
                x = built.inputs[norm.program.inputs[0].name]
                assert x is not None
                yield _entry(norm.program.name, workload, x, layers, plan.rounds)


def _entry(
    norm: str,
    workload: Workload,
    x: Tensor,
    layers: Iterable[tuple[str, Callable[[], Candidate]]],
    rounds: int,
) -> Entry:
    able, left_out = [], []
    for name, make in layers:
        try:
            candidate = make()
            for phase in PHASES:
                candidate.prepare(phase)()()
            able.append(candidate)
        except Exception as error:  # whatever a layer cannot do is a line of the report
            left_out.append(f"{name}: {_first_line(error)}")
    target, source = torch.empty_like(x), x.detach()
    copies, measurements = [], []
    for phase in PHASES:
        runs: dict[str, Prepare] = {c.name: c.prepare(phase) for c in able}
        runs["copy"] = lambda: lambda: target.copy_(source)
        timings = time_together(runs, rounds)
        copies.append(timings.pop("copy").median)
        measurements += [
            Measurement(candidate=name, phase=phase, median=t.median, low=t.low, high=t.high)
            for name, t in timings.items()
        ]
    return Entry(
        norm=norm,
        workload=workload.name,
        nbytes=workload.nbytes,
        copy_seconds=median(copies),
        measurements=tuple(measurements),
        footprints=tuple(_footprint(c) for c in able if not c.traced),
        left_out=tuple(left_out),
    )


def _footprint(candidate: Candidate) -> Footprint:
    return Footprint(
        candidate=candidate.name,
        peak=peak_bytes(candidate.prepare("both")()),
        saved=saved_bytes(candidate.forward, candidate.tensors),
    )


def machine() -> Machine:
    """This one."""
    return Machine(
        processor=_processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        metanorm=__version__,
    )


def _processor() -> str:
    """What Linux calls the processor; elsewhere, what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
