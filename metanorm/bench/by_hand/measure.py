"""Norms on kernels side by side with the layers of packages, and with those written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch

from metanorm.bench.agreement import demand_agreement
from metanorm.bench.by_hand.report import Comparison, HandEntry
from metanorm.bench.by_hand.rows import ROWS
from metanorm.bench.candidates import Candidate, Case, our_candidates, peer_candidates
from metanorm.bench.cases import ACTIVATION, GRADIENT, cases
from metanorm.bench.clock import Lap
from metanorm.bench.device import Device
from metanorm.bench.fallback import RanOnTorch, one_line_reason
from metanorm.bench.library import CompiledSpecs
from metanorm.bench.peers.table import peers
from metanorm.bench.report import Measurement
from metanorm.bench.turns import laps_in_turns, ratio_of_laps, timing_of_laps
from metanorm.bench.workload import Workload
from metanorm.verify.cases import Setting, make_example

# A gradient is normalized without a graph: there is no way back through it.
PHASES = {ACTIVATION: ("forward", "both"), GRADIENT: ("forward",)}


@dataclass(frozen=True)
class Plan:
    """How to measure: `only` norms or inputs with this in their names."""

    rounds: int
    only: str = ""
    threads: int | None = None


def measure_by_hand(specs: CompiledSpecs, plan: Plan, device: Device) -> Iterator[HandEntry]:
    """Every norm of these specs that somebody else has, on its input."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(
        specs.checked, specs.files, specs.roots, "", device, _workloads_of(plan.only), PHASES
    ):
        yield measure_case(case, plan.rounds)


def _workloads_of(only: str) -> Callable[[str], Iterable[Workload]]:
    """The inputs of a norm of the library; of one that is none there are none."""
    return lambda known: [row for row in ROWS.get(known, ()) if only in f"{known}, {row.name}"]


def measure_case(case: Case, rounds: int) -> HandEntry:
    """All candidates of one case, in turns."""
    made, why = _our_candidate(case)
    able, left_out = {made.name: made}, []
    for (name, make), peer in zip(peer_candidates(case), peers(case.known, case.device.type)):
        try:
            norm = getattr(case.module, case.norm.program.name)
            demand_agreement(norm, peer, make_example(case.norm.program, Setting("agreement")))
            candidate = make()
            for phase in PHASES[case.norm.program.target]:
                case.device.clock.lap(candidate.prepare(phase), 1)
            able[name] = candidate
        except Exception as error:  # whatever a layer cannot do is a line of the report
            left_out.append(f"{name}: {one_line_reason(error)}")
    measurements: list[Measurement] = []
    comparisons: list[Comparison] = []
    for phase in PHASES[case.norm.program.target]:
        runs = {name: candidate.prepare(phase) for name, candidate in able.items()}
        laps = laps_in_turns(runs, rounds, case.device.clock)
        measurements += [_measurement(name, phase, found) for name, found in laps.items()]
        comparisons += [
            Comparison(beside=name, phase=phase, ratio=ratio_of_laps(found, laps[made.name]))
            for name, found in laps.items()
            if name != made.name
        ]
    return HandEntry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        ours=made.name,
        why=why,
        measurements=tuple(measurements),
        comparisons=tuple(comparisons),
        left_out=tuple(left_out),
    )


def _our_candidate(case: Case) -> tuple[Candidate, str]:
    """The norm on kernels, or on torch under that name and the reason."""
    (_, on_kernels), (_, on_torch) = our_candidates(case)
    try:
        return on_kernels(), ""
    except RanOnTorch as error:
        return on_torch(), error.reason


def _measurement(name: str, phase: str, laps: Sequence[Lap]) -> Measurement:
    t = timing_of_laps(laps)
    return Measurement(
        candidate=name, phase=phase, median=t.median, low=t.low, high=t.high, host=t.host
    )
