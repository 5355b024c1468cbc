"""Measures time and memory of every candidate, for norms on workloads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import torch

from metanorm.bench.candidates import Candidate, Case, candidates
from metanorm.bench.cases import cases
from metanorm.bench.clock import PrepareCall
from metanorm.bench.device import Device
from metanorm.bench.fallback import one_line_reason
from metanorm.bench.memory import saved_bytes
from metanorm.bench.report import PHASES, Entry, Footprint, Measurement
from metanorm.bench.rotation import Rotation
from metanorm.bench.turns import time_in_turns
from metanorm.frontend import Checked

COPY_CANDIDATE = "copy"


@dataclass(frozen=True)
class Plan:
    """How to measure: workloads whose name contains `only`, with or without `traced` candidates."""

    rounds: int = 15
    only: str = ""
    traced: bool = True
    threads: int | None = None


def measure_files(
    checked: Checked, files: Mapping[str, str], roots: Sequence[str], plan: Plan, device: Device
) -> Iterator[Entry]:
    """Measure each norm for activations of these specs, on every workload that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(checked, files, roots, plan.only, device):
        yield measure_case(case, plan)


def measure_case(case: Case, plan: Plan) -> Entry:
    """Measure all candidates of a case, side by side."""
    clock = case.device.clock
    working, left_out = [], []
    for name, make in candidates(case, plan.traced):
        try:
            candidate = make()
            for phase in PHASES:
                clock.lap(candidate.prepare(phase), 1)
            working.append(candidate)
        except Exception as error:  # any failure of a candidate is a line of the report
            left_out.append(f"{name}: {one_line_reason(error)}")
    copy, copy_times, measurements = _copy_call(case.rotation), [], []
    for phase in PHASES:
        prepare_by_name: dict[str, PrepareCall] = {c.name: c.prepare(phase) for c in working}
        timings = time_in_turns({**prepare_by_name, COPY_CANDIDATE: copy}, plan.rounds, clock)
        copy_times.append(timings.pop(COPY_CANDIDATE).median)
        measurements += [
            Measurement(
                candidate=name,
                phase=phase,
                median=timing.median,
                low=timing.low,
                high=timing.high,
                host=timing.host,
            )
            for name, timing in timings.items()
        ]
    return Entry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        nbytes=case.workload.nbytes,
        copy_seconds=median(copy_times),
        measurements=tuple(measurements),
        footprints=tuple(_footprint(c, case.device) for c in working if not c.traced),
        left_out=tuple(left_out),
    )


def _copy_call(rotation: Rotation) -> PrepareCall:
    """The unit of times: copies of the input into the same memory."""
    sources = rotation.sources()
    target = torch.empty_like(next(sources))

    def prepare() -> Callable[[], object]:
        source = next(sources)
        return lambda: target.copy_(source)

    return prepare


def _footprint(candidate: Candidate, device: Device) -> Footprint:
    return Footprint(
        candidate=candidate.name,
        peak=device.peak(candidate.prepare("both")()),
        saved=saved_bytes(candidate.forward, candidate.tensors),
    )
