"""Norms on workloads: times and memory of every candidate."""

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
    """How to measure: `only` inputs with this in their names, and `traced` candidates or not."""

    rounds: int = 15
    only: str = ""
    traced: bool = True
    threads: int | None = None


def measure_files(
    checked: Checked, files: Mapping[str, str], roots: Sequence[str], plan: Plan, device: Device
) -> Iterator[Entry]:
    """Every norm for activations of these specs, on every workload that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(checked, files, roots, plan.only, device):
        yield measure_case(case, plan)


def measure_case(case: Case, plan: Plan) -> Entry:
    """All candidates of one case, side by side."""
    clock = case.device.clock
    able, left_out = [], []
    for name, make in candidates(case, plan.traced):
        try:
            candidate = make()
            for phase in PHASES:
                clock.lap(candidate.prepare(phase), 1)
            able.append(candidate)
        except Exception as error:  # whatever a layer cannot do is a line of the report
            left_out.append(f"{name}: {one_line_reason(error)}")
    copy, found, measurements = _copy_call(case.rotation), [], []
    for phase in PHASES:
        runs: dict[str, PrepareCall] = {c.name: c.prepare(phase) for c in able}
        timings = time_in_turns({**runs, COPY_CANDIDATE: copy}, plan.rounds, clock)
        found.append(timings.pop(COPY_CANDIDATE).median)
        measurements += [
            Measurement(
                candidate=name, phase=phase, median=t.median, low=t.low, high=t.high, host=t.host
            )
            for name, t in timings.items()
        ]
    return Entry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        nbytes=case.workload.nbytes,
        copy_seconds=median(found),
        measurements=tuple(measurements),
        footprints=tuple(_footprint(c, case.device) for c in able if not c.traced),
        left_out=tuple(left_out),
    )


def _copy_call(rotation: Rotation) -> PrepareCall:
    """The unit: the input, copied to where the last copy was."""
    sources = rotation.sources()
    target = torch.empty_like(next(sources))

    def fresh() -> Callable[[], object]:
        source = next(sources)
        return lambda: target.copy_(source)

    return fresh


def _footprint(candidate: Candidate, device: Device) -> Footprint:
    return Footprint(
        candidate=candidate.name,
        peak=device.peak(candidate.prepare("both")()),
        saved=saved_bytes(candidate.forward, candidate.tensors),
    )
