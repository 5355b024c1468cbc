"""Measures steps of networks with norms of two origins, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from metanorm.bench.clock import Lap, PrepareCall
from metanorm.bench.device import Device
from metanorm.bench.fallback import demand_kernels, one_line_reason
from metanorm.bench.library import LibraryNorm, library_norms
from metanorm.bench.networks.pairs import demand_agreement, inference_step, make_pair, training_step
from metanorm.bench.networks.report import INFERENCE, TRAINING, NetworkEntry
from metanorm.bench.networks.rows import ROWS, Batch, Row
from metanorm.bench.peers.peer import Peer
from metanorm.bench.peers.table import package_peers
from metanorm.bench.report import OURS, Measurement
from metanorm.bench.turns import laps_in_turns, ratio_of_laps, timing_of_laps
from metanorm.options import Options

Step = Callable[[nn.Module, Batch], Callable[[], Any]]
PHASES: Mapping[str, Step] = {TRAINING: training_step, INFERENCE: inference_step}


@dataclass(frozen=True)
class Plan:
    """How to measure: networks whose title contains `only`."""

    rounds: int
    only: str = ""
    threads: int | None = None


def measure_networks(options: Options, plan: Plan, device: Device) -> Iterator[NetworkEntry | str]:
    """An entry for each network in each phase, or a line that says why it was left out."""
    if plan.threads is not None:
        torch.set_num_threads(plan.threads)
    rows = [row for row in ROWS if plan.only in row_title(row)]
    norms = library_norms({row.kind.norm for row in rows}, options)
    for row in rows:
        for peer in package_peers(row.kind.norm, device.type):
            try:
                yield from measure_row(row, norms[row.kind.norm], peer, plan.rounds, device)
            except Exception as error:  # any failure of a layer is a line of the report
                beside = f"{row_title(row)}, beside {peer.package.name}"
                yield f"left out: {beside}: {one_line_reason(error)}"


def row_title(row: Row) -> str:
    """The title of a row: the network and its norm."""
    return f"{row.name}, {row.kind.norm}"


def measure_row(
    row: Row, norm: LibraryNorm, peer: Peer, rounds: int, device: Device
) -> Iterator[NetworkEntry]:
    """Measure a network with generated norms and with layers of others, side by side. Raises
    `NotInstalled`, `RanOnTorch` if a norm has no kernels, and `Disagreement`."""
    networks_of_row = make_pair(row, norm.layer, peer, device.type)
    demand_kernels(norm.optimised, norm.module, device, partial(demand_agreement, networks_of_row))
    networks, beside = (
        {OURS: networks_of_row.ours, peer.package.name: networks_of_row.theirs},
        peer.package.name,
    )
    for phase, step in PHASES.items():
        prepare_by_name = {
            name: _prepare(step(network, networks_of_row.batch))
            for name, network in networks.items()
        }
        laps = laps_in_turns(prepare_by_name, rounds, device.clock)
        yield NetworkEntry(
            network=row.name,
            norm=row.kind.norm,
            beside=beside,
            phase=phase,
            measurements=tuple(
                _measurement(name, phase, network_laps) for name, network_laps in laps.items()
            ),
            ratio=ratio_of_laps(laps[OURS], laps[beside]),
        )


def _prepare(step: Callable[[], Any]) -> PrepareCall:
    return lambda: step


def _measurement(candidate: str, phase: str, laps: Sequence[Lap]) -> Measurement:
    timing = timing_of_laps(laps)
    return Measurement(
        candidate=candidate,
        phase=phase,
        median=timing.median,
        low=timing.low,
        high=timing.high,
        host=timing.host,
    )
