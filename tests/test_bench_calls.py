"""`metanorm bench --calls`: what is timed, and what comes out. No time is ever asserted."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import in_a_child as run
from conftest import ROOT
from test_bench import case, one

from metanorm.bench.calls.callees import (
    COMPILED,
    COMPILED_ON_KERNELS,
    DESCRIPTIONS,
    EMPTY,
    EQUATIONS,
    FUNCTION,
    KERNELS,
    ON_TORCH,
    callees,
)
from metanorm.bench.calls.functions import NoFunctionCalled, function_behind
from metanorm.bench.calls.launches import record_launches, replay
from metanorm.bench.calls.measure import MAX_BYTES, cpu_with_small_inputs, measure_case
from metanorm.bench.calls.phases import BACKWARD, BOTH, FORWARD, GRAPH, PHASES, Operands
from metanorm.bench.calls.report import CallEntry, CallReport, CallTime
from metanorm.bench.calls.table import summary
from metanorm.bench.peers.layers import LAYERS
from metanorm.bench.peers.table import package_peers as peers
from metanorm.bench.report import OURS, Machine, Ratio
from metanorm.bench.workload import WORKLOADS
from metanorm.runtime import use

SPECS = ("batch_norm", "group_norm", "layer_norm", "rms_norm", "graph_norm")
EVERY = [phase.name for phase in PHASES]


@pytest.mark.parametrize("name", SPECS)
def test_every_part_of_a_call_runs_in_its_phases(name: str) -> None:
    """And the module, its function, others' layers and the equations compute the same."""
    norm_case = case(name, one(name).program.name)
    (other,) = peers(norm_case.library_norm, "cpu")
    callee_by_name = {name: make() for name, make in callees(norm_case)}
    assert set(callee_by_name) == {*DESCRIPTIONS, other.package.name} - {
        COMPILED,
        COMPILED_ON_KERNELS,
    }
    assert list(callee_by_name[KERNELS]) == [FORWARD, BOTH] and list(callee_by_name[EMPTY]) == [
        FORWARD
    ]
    results = {}
    with torch.enable_grad(), use("auto"):
        for callee, phases in callee_by_name.items():
            for phase, prepare in phases.items():
                results[callee, phase] = prepare()()
    for callee in (FUNCTION, ON_TORCH, EQUATIONS, other.package.name):
        assert list(callee_by_name[callee]) == EVERY
        for phase in (FORWARD, GRAPH):
            ours, theirs = results[OURS, phase], results[callee, phase]
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
            assert ours.requires_grad is theirs.requires_grad is (phase == GRAPH)
        assert len(results[callee, BOTH]) == len(results[other.package.name, BOTH])
        torch.testing.assert_close(
            results[OURS, BOTH][0], results[callee, BOTH][0], rtol=1e-3, atol=1e-4
        )


def test_settings_of_a_phase_hold_for_its_call_and_not_longer() -> None:
    """What one callee asks for is never in force when another one is timed, nor at the end."""
    layer_case = case("layer_norm", "LayerNorm")
    before = torch.is_grad_enabled()
    entry = measure_case(layer_case, rounds=1)
    assert torch.is_grad_enabled() is before and entry.left_out == ()
    layer = layer_case.layer(layer_case.module)
    x = layer_case.rotation.turns[0].inputs[0]
    node = layer(x).grad_fn.name()  # of kernels: `use("torch")` is over
    assert node in ("LayerNormBackward", "NormalizedBackward")


def test_gradients_do_not_add_up_from_call_to_call() -> None:
    layer_case = case("layer_norm", "LayerNorm")
    module = dict(callees(layer_case))[OURS]()
    x = layer_case.rotation.turns[0].inputs[0]
    gradients = []
    for _ in range(2):
        module[BACKWARD]()()
        gradients.append(x.grad.clone())
    assert torch.equal(*gradients)


def test_kernels_alone_are_the_ones_of_the_call() -> None:
    """Run again, they write the same results into the same memory."""
    layer_case = case("layer_norm", "LayerNorm")
    layer = layer_case.layer(layer_case.module)
    x = layer_case.rotation.turns[0].inputs[0]
    with record_launches() as launches:
        y = layer(x)
        assert len(launches) == 1
        torch.autograd.grad(y, x, torch.ones_like(y))
        assert len(launches) == 2
    expected = y.detach().clone()
    y.detach().zero_()
    replay(launches)()
    assert torch.equal(y, expected)


def test_the_function_behind_a_module_is_called_with_what_forward_gives() -> None:
    batch_case = case("batch_norm", "BatchNorm")
    layer = batch_case.layer(batch_case.module)
    x = batch_case.rotation.turns[0].inputs[0]
    function = function_behind(batch_case.module, layer, (x,))
    assert function.func is batch_case.module.batch_norm
    assert function.args[0] is x and function.args[3] is layer.weight
    with pytest.raises(NoFunctionCalled):
        function_behind(batch_case.module, torch.nn.Identity(), (x,))


def test_phases_take_the_gradients_of_all_leaves() -> None:
    a, b = (torch.ones(2, requires_grad=True) for _ in range(2))
    by_name = {phase.name: phase for phase in PHASES}
    operands = Operands((a, b), torch.ones(2))
    called = by_name[BOTH].timed(lambda: (a * 2 * b, None), operands)()
    assert [g.tolist() for g in called] == [[2, 2], [2, 2]]
    by_name[BACKWARD].timed(lambda: a * 2, operands)()
    assert a.grad is not None and a.grad.tolist() == [2, 2] and b.grad is None


def test_small_inputs_are_those_that_calls_cost_for() -> None:
    names = {w.name for w in cpu_with_small_inputs().workloads}
    assert {"16x64", "64x768", "8x16x4x4", "512x64 in 16"} <= names
    assert names == {w.name for w in WORKLOADS if w.nbytes <= MAX_BYTES}


def test_the_command_writes_a_table_and_data(tmp_path: Path) -> None:
    spec, data = str(ROOT / "specs/layer_norm.norm"), tmp_path / "there" / "calls.json"
    done = run(
        "bench",
        spec,
        "--calls",
        "--no-torch-compile",
        "--rounds",
        "2",
        "--only",
        "16x64",
        "--json",
        str(data),
    )
    assert done.returncode == 0, done.stderr
    report = CallReport.model_validate_json(data.read_text())
    (entry,) = report.entries
    assert (entry.norm, entry.workload, entry.beside) == ("LayerNorm", "16x64", "torch.nn")
    assert [*entry.by_callee, COMPILED, COMPILED_ON_KERNELS] == ["torch.nn", *DESCRIPTIONS]
    assert report.rounds == 2 and not entry.left_out
    for time in entry.times:
        assert 0 < time.low <= time.median <= time.high
        assert time.ratio is not None and time.ratio.low <= time.ratio.median <= time.ratio.high
    assert "│ its kernels " in done.stdout and "grad(): " in done.stdout
    rows = done.stderr.splitlines()  # each was printed when it was timed
    assert rows[0].startswith("norm LayerNorm, input 16x64, us torch.nn, ")
    assert [row.split(",")[0] for row in rows[1:]] == [
        f"us {name}" for name in [*entry.by_callee][1:]
    ]


@pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours
def test_compiled_modules_are_beside_compiled_layers() -> None:
    entry = measure_case(case("layer_norm", "LayerNorm"), rounds=1, traced=True)
    assert entry.left_out == ()
    assert list(entry.by_callee)[-3:] == ["compiled torch.nn", COMPILED, COMPILED_ON_KERNELS]
    for callee in (COMPILED, COMPILED_ON_KERNELS):
        for phase in EVERY:
            ratio = entry.by_callee[callee][phase].ratio
            times = [entry.by_callee[c][phase] for c in (callee, "compiled torch.nn")]
            assert ratio is not None and ratio.median == times[0].median / times[1].median


def test_without_specs_the_norms_are_those_that_others_have_too(tmp_path: Path) -> None:
    data = tmp_path / "calls.json"
    done = run(
        "bench", "--calls", "--no-torch-compile", "--rounds", "1", "--only", "16x64",
        "--json", str(data),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    norms = {e.norm for e in CallReport.model_validate_json(data.read_text()).entries}
    # torch has no instance norm for rows of features
    of_torch = {"BatchNorm", "GroupNorm", "LayerNorm", "RMSNorm"}
    assert norms == of_torch | {"HeteroBatchNorm", "HeteroLayerNorm", "DiffGroupNorm"}
    assert norms < set(LAYERS)


def test_a_norm_without_kernels_says_so(tmp_path: Path) -> None:
    spec = str(ROOT / "specs/iter_norm.norm")
    done = run("bench", spec, "--calls", "--no-torch-compile", "--rounds", "1", "--only", "8x16")
    assert done.returncode == 0, done.stderr
    for callee in (OURS, FUNCTION, KERNELS):
        assert f"left out of IterNorm, 8x16x4x4: {callee}: ran on torch: " in done.stdout
        assert f"│ {callee} " not in done.stdout
    assert "│ plain torch " in done.stdout and "times the time" not in done.stdout


def test_a_summary_says_the_worst() -> None:
    def entry(norm: str, ratio: float) -> CallEntry:
        beside = Ratio(median=ratio, low=ratio, high=ratio)
        time = CallTime(callee=OURS, phase=GRAPH, median=1, low=1, high=1, ratio=beside)
        return CallEntry(norm=norm, workload="w", beside="torch.nn", times=(time,))

    machine = Machine(processor="p", threads=1, torch="t", metanorm="m")
    entries = (entry("A", 0.5), entry("B", 2))
    (line,) = summary(CallReport(machine=machine, rounds=1, entries=entries))
    assert line == "graph: 1.00 times the time of torch.nn on average, at most 2.00 times (B, w)"
