"""Layers written by hand compute what norms compute, and `metanorm bench --by-hand` times both.

No time is ever asserted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from commands import in_a_child, in_this
from conftest import PROGRAMS, ROOT

from metanorm.bench.agreement import Disagreement, demand_agreement
from metanorm.bench.by_hand.measure import Plan, measure_by_hand
from metanorm.bench.by_hand.report import Comparison, HandEntry, HandReport, summary_lines
from metanorm.bench.by_hand.rows import ROWS
from metanorm.bench.device import cpu_device
from metanorm.bench.library import LibraryNorm, library_norms, library_specs_of
from metanorm.bench.peers import peer as peer_module
from metanorm.bench.peers.by_hand import kinds, mixtures
from metanorm.bench.peers.hand_written import BY_HAND, HAND_WRITTEN
from metanorm.bench.peers.layers import LAYERS
from metanorm.bench.peers.peer import NotInstalled, Peer
from metanorm.bench.peers.table import peers
from metanorm.bench.report import OURS, Machine, Ratio
from metanorm.bench.workload import fitted_lengths
from metanorm.ir.program import Program
from metanorm.options import Options
from metanorm.runtime import simplex
from metanorm.verify.cases import Setting, make_example

NAMES = sorted({*HAND_WRITTEN, *LAYERS})
SMALL = ("bench", "--by-hand", "--rounds", "1", "--threads", "1")


@pytest.fixture(scope="module")
def norms() -> Mapping[str, LibraryNorm]:
    return library_norms(NAMES, Options(target="torch"))


def settings(program: Program) -> Iterator[Setting]:
    """Windows of even and odd width, few and more classes; sequences, and rows of features."""
    for number in (2, 3):
        yield Setting(f"{number}", number=number)
    if any(axis.variadic and axis.size is None for axis in program.axes):
        yield Setting("sequence", space=(5,))
        yield Setting("row", space=())


@pytest.mark.parametrize("name", NAMES)
def test_peers_compute_what_the_norm_computes(name: str, norms: Mapping[str, LibraryNorm]) -> None:
    """Outputs, gradients of inputs and parameters, and running statistics: in float64."""
    agreed = set()
    for peer in peers(name, "cpu"):
        for setting in settings(PROGRAMS[name]):
            built = make_example(PROGRAMS[name], setting)
            shape = built.inputs[PROGRAMS[name].inputs[0].name].shape
            try:
                peer.layer(tuple(shape), built.arguments)
                demand_agreement(norms[name].layer, peer, built)
            except NotInstalled:
                continue
            except (KeyError, ValueError):  # of ranks that torch or the norm itself does not take
                assert setting.name in ("row", "sequence"), (name, peer.package.name)
                continue
            agreed.add(peer.package.name)
    names = {p.package.name for p in peers(name, "cpu")}
    assert agreed >= names - {"torch-scatter"} and (agreed or not names)


def test_what_computes_something_else_is_noticed(norms: Mapping[str, LibraryNorm]) -> None:
    """An epsilon, a running statistic, a gradient that is missing, a parameter that is missing."""
    built = make_example(PROGRAMS["ModeNorm"], Setting("small"))
    norm = norms["ModeNorm"].layer

    def mode(**options: float) -> Peer:
        return Peer(BY_HAND, lambda shape, _: mixtures.ModeNorm(shape[1], 2, **options))

    demand_agreement(norm, mode(), built)
    with pytest.raises(Disagreement, match="the output differs"):
        demand_agreement(norm, mode(eps=1.1e-5), built)
    with pytest.raises(Disagreement, match="in evaluation differs"):
        demand_agreement(norm, mode(momentum=0.11), built)

    class Stopped(mixtures.ModeNorm):
        def _measured(self, *arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]
            return tuple(part.detach() for part in super()._measured(*arguments))  # type: ignore[arg-type]

    with pytest.raises(Disagreement, match="the gradient of input 0 differs"):
        demand_agreement(norm, Peer(BY_HAND, lambda shape, _: Stopped(shape[1], 2)), built)
    built = make_example(PROGRAMS["InstanceNorm"], Setting("small"))
    learned = Peer(BY_HAND, lambda shape, _: torch.nn.InstanceNorm2d(shape[1], affine=True))
    with pytest.raises(Disagreement, match="only one of them has the gradient of bias, "):
        demand_agreement(norms["InstanceNorm"].layer, learned, built)


def test_sparsemax_by_hand_leaves_weights_at_zero() -> None:
    for weights in torch.randn(50, 3, dtype=torch.float64):
        actual = mixtures.sparsemax(weights)
        torch.testing.assert_close(actual, simplex.sparsestmax(weights, 0, 0))
    assert (mixtures.sparsemax(torch.tensor([3.0, 0, 0])) == torch.tensor([1.0, 0, 0])).all()


def test_domains_that_a_batch_has_nothing_of_stay_as_they_are() -> None:
    layer = kinds.DomainBatchNorm(3, 4)
    layer(torch.randn(6, 4, 5) + 1, torch.tensor([0, 2, 0, 2, 2, 0]))
    assert (layer.running_mean[1] == 0).all() and (layer.running_var[1] == 1).all()
    assert (layer.running_mean[0] != 0).all() and (layer.running_var[2] != 1).all()


# ---- the rows


@pytest.mark.parametrize("name", ROWS)
def test_rows_fit_their_norm_and_somebody_else_has_it(name: str) -> None:
    program = PROGRAMS[name]
    named = {argument.name for argument in program.arguments}
    assert peers(name, "cpu")
    for row in ROWS[name]:
        assert set(row.numbers) <= named and fitted_lengths(row, program) is not None
        assert (row.edges is not None) == any(i.sort == "edges" for i in program.inputs)


def test_every_norm_that_is_written_by_hand_has_a_row() -> None:
    assert set(HAND_WRITTEN) <= set(ROWS)


# ---- the command


def test_the_command_writes_a_table_and_data(tmp_path: Path) -> None:
    data = tmp_path / "by_hand.json"
    done = in_a_child(*SMALL, "--only", "SubtractionNorm", "--json", str(data))
    assert done.returncode == 0, done.stderr
    (entry,) = HandReport.model_validate_json(data.read_text()).entries
    besides = {c.beside for c in entry.comparisons}
    assert (entry.norm, entry.ours, entry.why) == ("MeanSubtractionNorm", OURS, "")
    assert {"PyG", "by hand"} <= besides
    assert {(c.beside, c.phase) for c in entry.comparisons} == {
        (beside, phase) for beside in besides for phase in ("forward", "both")
    }
    assert "MeanSubtractionNorm" in done.stdout and "kernels" in done.stdout
    assert "times as fast as the quickest other (1 inputs)" in done.stdout


def test_a_norm_is_found_by_what_it_computes(tmp_path: Path) -> None:
    """Whatever it is called; what nobody has written has no row."""
    spec = tmp_path / "own.norm"
    text = (ROOT / "specs/mean_subtraction_norm.norm").read_text()
    spec.write_text(text.replace("MeanSubtractionNorm", "OwnNorm"))
    data = tmp_path / "by_hand.json"
    done = in_a_child(*SMALL, str(spec), "--json", str(data))
    assert done.returncode == 0, done.stderr
    (entry,) = HandReport.model_validate_json(data.read_text()).entries
    assert entry.norm == "OwnNorm" and "by hand" in {c.beside for c in entry.comparisons}
    nobody = in_this("bench", "--by-hand", str(ROOT / "specs/batch_norm.norm"))
    assert nobody.returncode == 1 and "nobody has written" in nobody.stderr


def test_norms_for_gradients_are_timed_one_way() -> None:
    specs = library_specs_of({"Muon"}, Options())
    (entry,) = measure_by_hand(specs, Plan(rounds=1), cpu_device())
    assert {c.phase for c in entry.comparisons} == {"forward"}


def test_a_package_that_is_not_there_is_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    find_spec = peer_module.find_spec
    monkeypatch.setattr(
        peer_module, "find_spec", lambda name: None if name == "torch_scatter" else find_spec(name)
    )
    specs = library_specs_of({"MeanSubtractionNorm"}, Options())
    (entry,) = measure_by_hand(specs, Plan(rounds=1), cpu_device())
    assert entry.left_out == ("torch-scatter: not installed: pip install 'metanorm[scatter]'",)


def test_a_report_says_who_is_below_the_goal() -> None:
    def entry(norm: str, ours: str, **ratios: float) -> HandEntry:
        comparisons = [
            Comparison(beside=who, phase=phase, ratio=Ratio(median=r, low=r, high=r))
            for who, r in ratios.items()
            for phase in ("forward", "both")
        ]
        why = "" if ours == OURS else "repeat"
        return HandEntry(
            norm=norm,
            workload="w",
            ours=ours,
            why=why,
            measurements=(),
            comparisons=tuple(comparisons),
        )

    machine = Machine(processor="p", threads=1, torch="t", metanorm="m")
    entries = (entry("A", OURS, PyG=8, hand=4), entry("B", "plain torch", hand=1))
    assert list(summary_lines(HandReport(machine=machine, rounds=1, entries=entries))) == [
        "B, w: on plain torch, without kernels: repeat",
        "forward: 2.00 times as fast as the quickest other (2 inputs), "
        "at least 1.00 times (B, w, hand)",
        "both: 2.00 times as fast as the quickest other (2 inputs), "
        "at least 1.00 times (B, w, hand)",
        "both: 1 of 2 inputs at least 2 times as fast",
        "below 2 times: B, w: 1.00",
    ]


@pytest.mark.parametrize(
    "other", (("--calls",), ("--networks",), ("--chart", "x.png"), ("--compare", "x.json"))
)
def test_options_that_do_not_go_together_are_refused(other: tuple[str, ...]) -> None:
    done = in_this("bench", "--by-hand", *other)
    assert done.returncode == 2 and "does not go with" in done.stderr
