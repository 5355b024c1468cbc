"""Measures norms on kernels beside layers of packages and layers written by hand."""

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

# Norms for gradients have no backward pass.
PHASES = {ACTIVATION: ("forward", "both"), GRADIENT: ("forward",)}


@dataclass(frozen=True)
class Plan:
    """How to measure: norms and workloads whose name contains `only`."""

    rounds: int
    only: str = ""
    threads: int | None = None


def measure_by_hand(specs: CompiledSpecs, plan: Plan, device: Device) -> Iterator[HandEntry]:
    """Measure each norm of these specs that has peers, on its workloads."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(
        specs.checked, specs.files, specs.roots, "", device, _workloads_of(plan.only), PHASES
    ):
        yield measure_case(case, plan.rounds)


def _workloads_of(only: str) -> Callable[[str], Iterable[Workload]]:
    """A function from a norm of the library to its workloads; none for other norms."""
    return lambda norm: [row for row in ROWS.get(norm, ()) if only in f"{norm}, {row.name}"]


def measure_case(case: Case, rounds: int) -> HandEntry:
    """Measure all candidates of a case, side by side."""
    candidate_of_norm, why = _our_candidate(case)
    working, left_out = {candidate_of_norm.name: candidate_of_norm}, []
    for (name, make), peer in zip(
        peer_candidates(case), peers(case.library_norm, case.device.type)
    ):
        try:
            norm = getattr(case.module, case.norm.program.name)
            demand_agreement(norm, peer, make_example(case.norm.program, Setting("agreement")))
            candidate = make()
            for phase in PHASES[case.norm.program.target]:
                case.device.clock.lap(candidate.prepare(phase), 1)
            working[name] = candidate
        except Exception as error:  # any failure of a layer is a line of the report
            left_out.append(f"{name}: {one_line_reason(error)}")
    measurements: list[Measurement] = []
    comparisons: list[Comparison] = []
    for phase in PHASES[case.norm.program.target]:
        prepare_by_name = {name: candidate.prepare(phase) for name, candidate in working.items()}
        laps = laps_in_turns(prepare_by_name, rounds, case.device.clock)
        measurements += [
            _measurement(name, phase, candidate_laps) for name, candidate_laps in laps.items()
        ]
        comparisons += [
            Comparison(
                beside=name,
                phase=phase,
                ratio=ratio_of_laps(candidate_laps, laps[candidate_of_norm.name]),
            )
            for name, candidate_laps in laps.items()
            if name != candidate_of_norm.name
        ]
    return HandEntry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        ours=candidate_of_norm.name,
        why=why,
        measurements=tuple(measurements),
        comparisons=tuple(comparisons),
        left_out=tuple(left_out),
    )


def _our_candidate(case: Case) -> tuple[Candidate, str]:
    """The norm on kernels, or else on plain torch with the reason."""
    (_, on_kernels), (_, on_torch) = our_candidates(case)
    try:
        return on_kernels(), ""
    except RanOnTorch as error:
        return on_torch(), error.reason


def _measurement(name: str, phase: str, laps: Sequence[Lap]) -> Measurement:
    timing = timing_of_laps(laps)
    return Measurement(
        candidate=name,
        phase=phase,
        median=timing.median,
        low=timing.low,
        high=timing.high,
        host=timing.host,
    )
