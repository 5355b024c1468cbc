"""Calls of norms on small inputs, side by side with the layers of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median

import torch

from metanorm.bench.calls.callees import ABOUT, COMPILED, KEPT, Callee, callees, compiled_of
from metanorm.bench.calls.phases import PHASES
from metanorm.bench.calls.report import CallEntry, CallTime
from metanorm.bench.candidates import Case
from metanorm.bench.cases import cases
from metanorm.bench.clock import CpuClock, Lap, Prepare
from metanorm.bench.device import Device, cpu
from metanorm.bench.fallback import reason
from metanorm.bench.library import Specs
from metanorm.bench.peers.peer import NotInstalled
from metanorm.bench.peers.table import layers_of_packages
from metanorm.bench.turns import laps_together, ratio, timing
from metanorm.runtime import use

Key = tuple[str, str]  # a callee and a phase
SMALL = 2**18  # bytes of the first input, up to which what stands around kernels counts
LAP = 1e-3  # seconds: short, so that all callees meet the same moods of a machine


@dataclass(frozen=True)
class Plan:
    """How to measure: `only` inputs with this in their names, `peered` norms alone or all, and
    `traced` layers, too."""

    rounds: int
    only: str = ""
    threads: int | None = None
    peered: bool = False
    traced: bool = False


def small() -> Device:
    """The CPU, with the small ones of its inputs. The median of a lap's calls counts: one that
    another process interrupts takes a hundred times as long."""
    device = cpu()
    fitting = tuple(w for w in device.workloads if w.nbytes <= SMALL)
    return replace(device, clock=CpuClock(shortest=LAP, average=median), workloads=fitting)


def measure_calls(specs: Specs, plan: Plan) -> Iterator[CallEntry]:
    """Every norm of these specs, on every small input that fits it."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    for case in cases(specs.checked, specs.files, specs.roots, plan.only, small()):
        if not plan.peered or _peered(case):
            yield measured(case, plan.rounds, plan.traced)


def _peered(case: Case) -> bool:
    """Whether somebody else has a layer for this norm and this input, installed or not."""
    for peer in layers_of_packages(case.known, case.device.type):
        try:
            peer.layer(case.workload.shape, case.arguments)
        except NotInstalled:
            return True
        except Exception:  # torch has no instance norm for rows of features
            continue
        return True
    return False


def measured(case: Case, rounds: int, traced: bool = False) -> CallEntry:
    """All callees of one case in all their phases: in each, they take turns."""
    left_out = []
    others = {peer.package.name for peer in layers_of_packages(case.known, case.device.type)}
    runs: dict[Key, Prepare] = {}
    with torch.enable_grad(), use("auto"):  # both are as they were before, at the end
        for name, make in callees(case, traced):
            try:
                runs |= {(name, phase): call for phase, call in _tried(make()).items()}
            except Exception as error:  # whatever a layer cannot do is a line of the report
                left_out.append(f"{name}: {reason(error)}")
            torch.set_grad_enabled(True)
            use("auto")
        laps: dict[Key, list[Lap]] = {}
        for phase in PHASES:  # those of other phases would only fill the caches meanwhile
            together = {key: prepare for key, prepare in runs.items() if key[1] == phase.name}
            laps |= laps_together(together, rounds, case.device.clock)
    beside = next((name for name, _ in runs if name in others), "")
    places = [*others, *ABOUT]
    places.insert(places.index(COMPILED), compiled_of(beside))
    keys = sorted(laps, key=lambda key: places.index(key[0]))
    times = [_time(key, laps, beside) for key in keys]
    return CallEntry(
        norm=case.norm.program.name,
        workload=case.workload.name,
        beside=beside,
        times=tuple(times),
        left_out=tuple(left_out),
    )


def _tried(callee: Callee) -> Callee:
    """The same, called once in every phase."""
    for prepare in callee.values():
        prepare()()
    return callee


def _time(key: Key, laps: Mapping[Key, Sequence[Lap]], beside: str) -> CallTime:
    (callee, phase), found = key, timing(laps[key])
    base = compiled_of(beside) if callee in (COMPILED, KEPT) else beside
    theirs = laps.get((base, phase))
    return CallTime(
        callee=callee,
        phase=phase,
        median=found.median,
        low=found.low,
        high=found.high,
        ratio=None if theirs is None else ratio(laps[key], theirs),
    )
