"""Measures calls of norms on small inputs, beside layers of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

from metanorm.bench.calls.callees import (
    COMPILED,
    COMPILED_ON_KERNELS,
    DESCRIPTIONS,
    Callee,
    callees,
    compiled_name,
)
from metanorm.bench.calls.phases import PHASES
from metanorm.bench.calls.report import CallEntry, CallTime
from metanorm.bench.candidates import Case
from metanorm.bench.cases import cases
from metanorm.bench.clock import CpuClock, Lap, PrepareCall
from metanorm.bench.device import Device, cpu_device
from metanorm.bench.fallback import one_line_reason
from metanorm.bench.library import CompiledSpecs
from metanorm.bench.peers.peer import NotInstalled
from metanorm.bench.peers.table import package_peers
from metanorm.bench.turns import laps_in_turns, ratio_of_laps, timing_of_laps
from metanorm.runtime import use

Key = tuple[str, str]  # a callee and a phase
MAX_BYTES = 2**18  # of the first input, so that overhead dominates
SHORTEST_LAP = 1e-3  # seconds: short, so that all callees meet the same state of the machine


@dataclass(frozen=True)
class Plan:
    """How to measure: workloads whose name contains `only`; with `peered`, only norms that have a
    peer; with `traced`, also layers under `torch.compile`."""

    rounds: int
    only: str = ""
    threads: int | None = None
    peered: bool = False
    traced: bool = False


def cpu_with_small_inputs() -> Device:
    """The CPU with its small workloads. The median of the calls of a lap counts, since a call that
    another process interrupts takes a hundred times as long."""
    device = cpu_device()
    small_workloads = tuple(w for w in device.workloads if w.nbytes <= MAX_BYTES)
    return replace(
        device, clock=CpuClock(shortest=SHORTEST_LAP, average=median), workloads=small_workloads
    )


def measure_calls(specs: CompiledSpecs, plan: Plan) -> Iterator[CallEntry]:
    """Measure each norm of these specs, on every small workload that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(specs.checked, specs.files, specs.roots, plan.only, cpu_with_small_inputs()):
        if not plan.peered or _has_peer(case):
            yield measure_case(case, plan.rounds, plan.traced)


def _has_peer(case: Case) -> bool:
    """Whether a package has a layer for this norm and workload, installed or not."""
    for peer in package_peers(case.library_norm, case.device.type):
        try:
            peer.layer(case.workload.shape, case.arguments)
        except NotInstalled:
            return True
        except Exception:  # such as torch, which has no instance norm for rows of features
            continue
        return True
    return False


def measure_case(case: Case, rounds: int, traced: bool = False) -> CallEntry:
    """Measure all callees of a case in all their phases, side by side in each phase."""
    left_out = []
    peer_names = {peer.package.name for peer in package_peers(case.library_norm, case.device.type)}
    prepare_by_key: dict[Key, PrepareCall] = {}
    with torch.enable_grad(), use("auto"):  # restores both at the end
        for name, make in callees(case, traced):
            try:
                prepare_by_key |= {
                    (name, phase): prepare for phase, prepare in _warmed_up(make()).items()
                }
            except Exception as error:  # any failure of a callee is a line of the report
                left_out.append(f"{name}: {one_line_reason(error)}")
            torch.set_grad_enabled(True)
            use("auto")
        laps: dict[Key, list[Lap]] = {}
        for phase in PHASES:  # calls of other phases would fill the caches
            prepare_of_phase = {
                key: prepare for key, prepare in prepare_by_key.items() if key[1] == phase.name
            }
            laps |= laps_in_turns(prepare_of_phase, rounds, case.device.clock)
    beside = next((name for name, _ in prepare_by_key if name in peer_names), "")
    order = [*peer_names, *DESCRIPTIONS]
    order.insert(order.index(COMPILED), compiled_name(beside))
    keys = sorted(laps, key=lambda key: order.index(key[0]))
    times = [_call_time(key, laps, beside) for key in keys]
    return CallEntry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        beside=beside,
        times=tuple(times),
        left_out=tuple(left_out),
    )


def _warmed_up(callee: Callee) -> Callee:
    """The callee, after a call in every phase."""
    for prepare in callee.values():
        prepare()()
    return callee


def _call_time(key: Key, laps: Mapping[Key, Sequence[Lap]], beside: str) -> CallTime:
    (callee, phase), timing = key, timing_of_laps(laps[key])
    base_callee = compiled_name(beside) if callee in (COMPILED, COMPILED_ON_KERNELS) else beside
    base_laps = laps.get((base_callee, phase))
    return CallTime(
        callee=callee,
        phase=phase,
        median=timing.median,
        low=timing.low,
        high=timing.high,
        ratio=None if base_laps is None else ratio_of_laps(laps[key], base_laps),
    )
