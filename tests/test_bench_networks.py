"""`metanorm bench --networks`: networks that agree, and what comes out. No time is asserted."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from commands import in_a_child, in_this
from conftest import ROOT
from torch import nn

from metanorm.bench.clock import CpuClock, Lap
from metanorm.bench.device import cpu_device
from metanorm.bench.fallback import RanOnTorch
from metanorm.bench.library import LibraryNorm, library_norms
from metanorm.bench.networks.measure import PHASES, Plan, measure_networks, measure_row, row_title
from metanorm.bench.networks.pairs import (
    Disagreement,
    Pair,
    demand_agreement,
    inference_step,
    make_pair,
    training_step,
)
from metanorm.bench.networks.report import NetworkEntry, NetworkReport, summary
from metanorm.bench.networks.rows import ROWS, Row
from metanorm.bench.peers import peer as peer_module
from metanorm.bench.peers.table import package_peers as peers
from metanorm.bench.report import OURS, Machine, Ratio
from metanorm.bench.turns import ratio_of_laps
from metanorm.options import Options

IDS = [row_title(row) for row in ROWS]
SMALL = [row for row in ROWS if "of the demo" in row.name]


@pytest.fixture(scope="module")
def norms() -> dict[str, LibraryNorm]:
    return library_norms({row.kind.norm for row in ROWS}, Options())


def both(row: Row, norms: dict[str, LibraryNorm]) -> Pair:
    (peer,) = peers(row.kind.norm, "cpu")
    return make_pair(row, norms[row.kind.norm].layer, peer, "cpu")


def norms_of(network: nn.Module, module: str) -> list[nn.Module]:
    return [m for m in network.modules() if type(m).__module__.startswith(module)]


@pytest.mark.parametrize("row", ROWS, ids=IDS)
def test_both_networks_compute_the_same(row: Row, norms: dict[str, LibraryNorm]) -> None:
    networks = both(row, norms)
    ours = norms_of(networks.ours, "metanorm_generated")
    theirs = {type(m).__name__.rstrip("12d") for m in networks.theirs.modules()}
    assert ours and {type(m).__name__ for m in ours} == {row.kind.norm}
    assert not norms_of(networks.theirs, "metanorm_generated") and row.kind.norm in theirs
    before = copy.deepcopy(networks.ours.state_dict())
    demand_agreement(networks)
    after = networks.ours.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize("row", SMALL, ids=map(row_title, SMALL))
def test_networks_that_do_not_agree_are_not_timed(row: Row, norms: dict[str, LibraryNorm]) -> None:
    """Neither where a weight is a little off, nor where an epsilon is another one."""
    networks = both(row, norms)
    layers = norms_of(networks.ours, "metanorm_generated")
    with torch.no_grad():
        layers[-1].weight.mul_(1.001)
    with pytest.raises(Disagreement, match="do not compute the same: the "):
        demand_agreement(networks)
    networks = both(row, norms)
    norms_of(networks.ours, "metanorm_generated")[0].eps = 1e-3
    with pytest.raises(Disagreement):
        demand_agreement(networks)


def test_a_training_step_learns_and_inference_does_not(norms: dict[str, LibraryNorm]) -> None:
    networks = both(ROWS[0], norms)
    for network in (networks.ours, networks.theirs):
        before = copy.deepcopy(network.state_dict())
        inference_step(network, networks.batch)()
        state = network.state_dict()
        assert all(torch.equal(state[name], value) for name, value in before.items())
        training_step(network, networks.batch)()
        state = network.state_dict()
        assert not any(torch.equal(state[name], value) for name, value in before.items())
    for name, ours in networks.ours.state_dict().items():
        torch.testing.assert_close(ours, networks.theirs.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_networks_on_torch_are_not_timed_in_the_name_of_kernels() -> None:
    row = ROWS[0]
    torch_norms = library_norms({row.kind.norm}, Options(target="torch"))
    (peer,) = peers(row.kind.norm, "cpu")
    with pytest.raises(RanOnTorch):
        list(measure_row(row, torch_norms[row.kind.norm], peer, 1, cpu_device()))


def test_a_package_that_is_not_installed_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_module, "find_spec", lambda module: None)
    row = next(row for row in ROWS if row.kind.norm == "GraphNorm")
    plan = Plan(rounds=1, only=row_title(row))
    assert list(measure_networks(Options(), plan, cpu_device())) == [
        f"left out: {row_title(row)}, beside PyG: not installed: pip install torch-geometric"
    ]


def test_a_ratio_is_that_of_the_rounds() -> None:
    """A machine that slows down in the middle of a run slows both down."""
    ours, theirs = ([Lap(s * slow) for slow in (1, 1, 5, 5, 5)] for s in (2, 1))
    assert ratio_of_laps(ours, theirs) == Ratio(median=2, low=2, high=2)
    assert ratio_of_laps([Lap(1), Lap(2), Lap(3)], [Lap(1)] * 3) == Ratio(
        median=2, low=1.5, high=2.5
    )


def test_a_clock_may_take_the_median_of_a_lap() -> None:
    moments = iter([0.0, 1.0, 1.0, 2.0, 2.0, 102.0])
    clock = CpuClock(now=lambda: next(moments), average=lambda times: sorted(times)[1])
    assert clock.lap(lambda: lambda: None, 3) == Lap(1)


def test_the_command_writes_a_table_and_data(tmp_path: Path) -> None:
    data, row = tmp_path / "networks.json", ROWS[0]
    done = in_a_child(
        *("bench", "--networks", "--rounds", "2", "--only", row_title(row), "--json", str(data))
    )
    assert done.returncode == 0, done.stderr
    report = NetworkReport.model_validate_json(data.read_text())
    assert [entry.phase for entry in report.entries] == list(PHASES)
    for entry in report.entries:
        assert (entry.network, entry.norm) == (row.name, row.kind.norm)
        assert {m.candidate for m in entry.measurements} == {OURS, entry.beside}
        assert 0 < entry.ratio.low <= entry.ratio.median <= entry.ratio.high
    assert row.name in done.stdout and report.left_out == () and report.rounds == 2
    assert done.stdout.splitlines()[-1].startswith("inference: with generated norms ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--networks", "--calls"), "--networks does not go with --calls"),
        (("--networks", "--chart", "a.png"), "--networks does not go with --chart"),
        (("--calls", "--compare", "a.json"), "--calls does not go with --compare"),
        (("--calls", "--device", "cuda"), "--calls does not go with --device cuda: "),
        (("--networks", str(ROOT / "specs")), "--networks does not go with SPECS: "),
    ],
)
def test_options_that_do_not_go_together(
    arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    data = tmp_path / "folder" / "b.json"
    done = in_this("bench", *arguments, "--json", str(data))
    assert done.returncode == 2 and done.stderr.startswith(f"metanorm: {message}")
    assert not list(tmp_path.iterdir())


def test_a_name_that_no_network_has() -> None:
    done = in_a_child("bench", "--networks", "--only", "no such network")
    assert done.returncode == 1 and "no network was timed with 'no such network'" in done.stderr


def test_a_summary_says_the_worst() -> None:
    entries = tuple(
        NetworkEntry(
            network=name, norm="N", beside="torch.nn", phase="inference", measurements=(),
            ratio=Ratio(median=median, low=median, high=median),
        )
        for name, median in (("a", 0.5), ("b", 2.0))
    )  # fmt: skip
    machine = Machine(processor="p", threads=1, torch="t", metanorm="m")
    assert list(summary(NetworkReport(machine=machine, rounds=1, entries=entries))) == [
        "inference: with generated norms 1.00 times the time on average, at most 2.00 times (b, N)"
    ]
