"""Calls of norms on small inputs, side by side with the layers of others."""

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
MAX_BYTES = 2**18  # bytes of the first input, up to which what stands around kernels counts
SHORTEST_LAP = 1e-3  # seconds: short, so that all callees meet the same moods of a machine


@dataclass(frozen=True)
class Plan:
    """How to measure: `only` inputs with this in their names, `peered` norms alone or all, and
    `traced` layers, too."""

    rounds: int
    only: str = ""
    threads: int | None = None
    peered: bool = False
    traced: bool = False


def cpu_with_small_inputs() -> Device:
    """The CPU, with the small ones of its inputs. The median of a lap's calls counts: one that
    another process interrupts takes a hundred times as long."""
    device = cpu_device()
    fitting = tuple(w for w in device.workloads if w.nbytes <= MAX_BYTES)
    return replace(device, clock=CpuClock(shortest=SHORTEST_LAP, average=median), workloads=fitting)


def measure_calls(specs: CompiledSpecs, plan: Plan) -> Iterator[CallEntry]:
    """Every norm of these specs, on every small input that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(specs.checked, specs.files, specs.roots, plan.only, cpu_with_small_inputs()):
        if not plan.peered or _has_peer(case):
            yield measure_case(case, plan.rounds, plan.traced)


def _has_peer(case: Case) -> bool:
    """Whether somebody else has a layer for this norm and this input, installed or not."""
    for peer in package_peers(case.known, case.device.type):
        try:
            peer.layer(case.workload.shape, case.arguments)
        except NotInstalled:
            return True
        except Exception:  # torch has no instance norm for rows of features
            continue
        return True
    return False


def measure_case(case: Case, rounds: int, traced: bool = False) -> CallEntry:
    """All callees of one case in all their phases: in each, they take turns."""
    left_out = []
    others = {peer.package.name for peer in package_peers(case.known, case.device.type)}
    runs: dict[Key, PrepareCall] = {}
    with torch.enable_grad(), use("auto"):  # both are as they were before, at the end
        for name, make in callees(case, traced):
            try:
                runs |= {(name, phase): call for phase, call in _warmed_up(make()).items()}
            except Exception as error:  # whatever a layer cannot do is a line of the report
                left_out.append(f"{name}: {one_line_reason(error)}")
            torch.set_grad_enabled(True)
            use("auto")
        laps: dict[Key, list[Lap]] = {}
        for phase in PHASES:  # those of other phases would only fill the caches meanwhile
            together = {key: prepare for key, prepare in runs.items() if key[1] == phase.name}
            laps |= laps_in_turns(together, rounds, case.device.clock)
    beside = next((name for name, _ in runs if name in others), "")
    places = [*others, *DESCRIPTIONS]
    places.insert(places.index(COMPILED), compiled_name(beside))
    keys = sorted(laps, key=lambda key: places.index(key[0]))
    times = [_call_time(key, laps, beside) for key in keys]
    return CallEntry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        beside=beside,
        times=tuple(times),
        left_out=tuple(left_out),
    )


def _warmed_up(callee: Callee) -> Callee:
    """The same, called once in every phase."""
    for prepare in callee.values():
        prepare()()
    return callee


def _call_time(key: Key, laps: Mapping[Key, Sequence[Lap]], beside: str) -> CallTime:
    (callee, phase), found = key, timing_of_laps(laps[key])
    base = compiled_name(beside) if callee in (COMPILED, COMPILED_ON_KERNELS) else beside
    theirs = laps.get((base, phase))
    return CallTime(
        callee=callee,
        phase=phase,
        median=found.median,
        low=found.low,
        high=found.high,
        ratio=None if theirs is None else ratio_of_laps(laps[key], theirs),
    )
