"""`metanorm bench`: what is timed, and what comes out. No time is ever asserted."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from commands import in_a_child as run
from conftest import ROOT

from metanorm import frontend
from metanorm.bench.candidates import Case, candidates
from metanorm.bench.clock import CpuClock, PrepareCall
from metanorm.bench.device import Device, cpu_device
from metanorm.bench.equations import module_of_equations
from metanorm.bench.memory import peak_bytes, saved_bytes
from metanorm.bench.report import PHASES, Entry, Machine, Measurement, Report, changes
from metanorm.bench.rotation import Rotation
from metanorm.bench.summary import summary
from metanorm.bench.turns import time_in_turns
from metanorm.bench.workload import WORKLOADS, workloads
from metanorm.driver import compile_specs
from metanorm.frontend import CheckedNorm
from metanorm.module_names import module_name
from metanorm.options import Options, Target
from metanorm.passes.pipeline import optimize
from metanorm.runtime.native import calls
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import Setting, make_example
from metanorm.verify.compare import call_module
from metanorm.workspace import load, load_library

SPECS = ("batch_norm", "group_norm", "instance_norm", "layer_norm", "rms_norm", "graph_norm")


def one(name: str) -> CheckedNorm:
    specs = load([str(ROOT / "specs" / f"{name}.norm")])
    return frontend.check(specs.sources, specs.roots).norms[specs.roots[0]][0]


def case(
    name: str, library_norm: str = "", target: Target = "native", device: Device | None = None
) -> Case:
    """The norm of a spec on an image where it takes one, and on the smallest that there is: a
    single row of features has instances of one value."""
    specs = load([str(ROOT / "specs" / f"{name}.norm")])
    norm = frontend.check(specs.sources, specs.roots).norms[specs.roots[0]][0]
    files = compile_specs(specs.sources, specs.roots, Options(target=target)).files
    module = module_from_files(files, module_name(specs.roots[0]))
    workload, built = min(
        workloads(norm.program), key=lambda pair: (-len(pair[0].shape), pair[0].nbytes)
    )
    device = device or cpu_device()
    optimised, rotation = optimize(norm.program), Rotation(built, device.type)
    return Case(norm, optimised, module, library_norm, workload, built.arguments, rotation, device)


@pytest.mark.parametrize("name", SPECS)
def test_every_candidate_computes_the_same(name: str) -> None:
    """What is compared is worth comparing, or times would mean nothing."""
    beside = case(name, one(name).program.name)
    makers = candidates(beside, traced=False)
    made_candidates = [
        make() for who, make in makers if who != "torch-scatter"
    ]  # which may not be there
    ours = [c.name for c in made_candidates if c.name not in ("torch.nn", "PyG", "by hand")]
    assert ours == ["metanorm", "plain torch", "equations"] and len(made_candidates) >= 4
    results = [candidate.forward() for candidate in made_candidates]
    for result in results[1:]:
        torch.testing.assert_close(result, results[0], rtol=1e-4, atol=1e-5)


def test_equations_of_every_norm_compute_what_its_module_does() -> None:
    """Those of a norm that begins with its first batch once lacked what that gives."""
    library = load_library()
    files = compile_specs(library.sources, library.roots, Options(target="torch")).files
    compared = 0
    for root, norms in frontend.check(library.sources, library.roots).norms.items():
        module = module_from_files(files, module_name(root))
        for norm in norms:
            if norm.program.target != "activation":
                continue
            example = make_example(norm.program, Setting("equations", space=(4, 3)))
            first_outputs = []
            for source in (module, module_of_equations(norm)):
                torch.manual_seed(0)
                layer = getattr(source, norm.program.name)(**example.arguments).double()
                outputs = call_module(norm.program, layer, example.inputs, example)
                first_outputs.append(next(iter(outputs.values())))
            torch.testing.assert_close(*first_outputs, msg=f"{norm.program.name} differs")
            compared += 1
    assert compared > 100


def test_workloads_fit_the_axes_of_a_norm() -> None:
    by_spec = {name: {w.name for w, _ in workloads(one(name).program)} for name in SPECS}
    assert by_spec["graph_norm"] == {w.name for w in WORKLOADS if w.groups}
    assert by_spec["batch_norm"] == {w.name for w in WORKLOADS if not w.groups}
    assert (
        by_spec["layer_norm"]
        == {w.name for w in WORKLOADS if len(w.shape) == 2} - by_spec["graph_norm"]
    )


def test_candidates_take_turns_and_are_prepared_untimed() -> None:
    """By a clock that every step moves on by one, a call after two steps takes one."""
    seen: list[str] = []

    def candidate(name: str) -> PrepareCall:
        def prepare() -> Callable[[], object]:
            seen.append(f"prepare {name}")
            return lambda: seen.append(name)

        return prepare

    clock = CpuClock(now=lambda: float(len(seen)), shortest=0)  # one call in a lap
    timings = time_in_turns({"a": candidate("a"), "b": candidate("b")}, rounds=20, clock=clock)
    assert {name: (t.low, t.median, t.high) for name, t in timings.items()} == {
        "a": (1, 1, 1), "b": (1, 1, 1)
    }  # fmt: skip
    assert all(t.host is None for t in timings.values())  # the host is what works
    calls = [name for name in seen if name in ("a", "b")]
    rounds = list(zip(calls[-40::2], calls[-39::2]))
    assert set(rounds) == {("a", "b"), ("b", "a")}


def test_memory_is_counted_by_storage() -> None:
    x = torch.randn(1000, requires_grad=True)
    assert peak_bytes(lambda: (x.detach() * 2).view(10, 100)) == 4000
    assert peak_bytes(lambda: (x.detach() * 2) + 1) == 8000
    assert saved_bytes(lambda: x * x, [x]) == 0
    assert saved_bytes(lambda: x.exp(), [x]) == 4000


def test_a_chart_leaves_no_candidate_out(tmp_path: Path) -> None:
    """One without a colour of its own has a bar, too, and each phase the line of the floor."""
    pytest.importorskip("matplotlib")
    from metanorm.bench import chart

    times = [
        Measurement(candidate=c, phase=p, median=2.0, low=1.5, high=3.0)
        for c in ("metanorm", "by hand")
        for p in PHASES
    ]
    entry = Entry(norm="A", workload="8x8", nbytes=256, copy_seconds=1.0,
                  measurements=tuple(times), footprints=())  # fmt: skip
    report = Report(
        machine=Machine(processor="", threads=1, torch="", metanorm=""), entries=(entry,)
    )
    figure = chart.figure_of(report)
    assert [axes.get_title(loc="left") for axes in figure.axes] == list(PHASES)
    for axes, phase in zip(figure.axes, PHASES):
        handles = dict(zip(*reversed(axes.get_legend_handles_labels())))
        assert {"metanorm", "by hand", chart.FLOOR} == set(handles)
        assert handles[chart.FLOOR].get_xdata()[0] == PHASES[phase] / 2
        assert [bar.get_width() for bar in handles["by hand"]] == [2.0]
    chart.draw(report, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_writes_a_table_data_and_a_chart(tmp_path: Path) -> None:
    spec, data, chart = str(ROOT / "specs/batch_norm.norm"), tmp_path / "b.json", tmp_path / "b.png"
    quick = ("bench", spec, "--rounds", "1", "--only", "16x64", "--no-torch-compile")
    done = run(*quick, "--json", str(data), "--chart", str(chart))
    assert done.returncode == 0, done.stderr
    report = Report.model_validate_json(data.read_text())
    (entry,) = report.entries
    names = {"metanorm", "plain torch", "torch.nn", "equations"}
    assert {m.candidate for m in entry.measurements} == names
    assert "norm BatchNorm, input 16x64, candidate copy, " in done.stderr  # as soon as it is timed
    assert "16x64" in done.stdout and chart.read_bytes().startswith(b"\x89PNG")
    assert len(list(changes(report, report))) == len(entry.measurements)
    again = run(*quick, "--compare", str(data))
    assert again.returncode == 0 and "times what it took" in again.stdout
    assert "times as fast as torch.nn (1 inputs up to 64 KB)" in again.stdout
    assert "taken elsewhere" not in again.stderr
    data.write_text(data.read_text().replace('"threads": ', '"threads": 1'))
    elsewhere = run(*quick, "--compare", str(data))
    assert elsewhere.returncode == 0 and "was taken elsewhere" in elsewhere.stderr


def test_a_summary_tells_sizes_apart() -> None:
    def entry(name: str, nbytes: int, ours: float, theirs: float) -> Entry:
        both = [
            Measurement(candidate=c, phase="both", median=t, low=t, high=t)
            for c, t in (("metanorm", ours), ("torch.nn", theirs))
        ]
        return Entry(
            norm=name, workload="w", nbytes=nbytes, copy_seconds=1, measurements=tuple(both),
            footprints=(),
        )  # fmt: skip

    machine = Machine(processor="p", threads=2, torch="t", metanorm="m")
    entries = (entry("A", 10**7, 1, 2), entry("B", 10**6, 2, 1), entry("C", 4096, 1, 3))
    assert list(summary(Report(machine=machine, entries=entries))) == [
        "1.00 times as fast as torch.nn (2 inputs of 1 MB and more), at least 0.50 times (B, w)",
        "3.00 times as fast as torch.nn (1 inputs up to 64 KB), at least 3.00 times (C, w)",
    ]


def test_who_cannot_take_an_input_is_left_out_with_the_reason() -> None:
    """torch has no instance norm for rows of features; a pool of one value has no variance."""
    spec = str(ROOT / "specs/instance_norm.norm")
    done = run("bench", spec, "--rounds", "1", "--only", "16x64", "--no-torch-compile")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("left out of InstanceNorm, 16x64: ") == 4


def test_no_compiler_for_torch_compile_is_a_row_of_the_table(tmp_path: Path) -> None:
    spec = str(ROOT / "specs/batch_norm.norm")
    quick = ("bench", spec, "--rounds", "1", "--only", "16x64")
    done = run(*quick, CXX="no-such-compiler", TORCHINDUCTOR_CACHE_DIR=str(tmp_path))
    assert done.returncode == 0, done.stderr
    (row,) = [line for line in done.stdout.splitlines() if "│ torch.compile " in line]
    assert "left out" in row
    assert "left out of BatchNorm, 16x64: torch.compile: " in done.stdout


def test_plain_torch_runs_without_kernels() -> None:
    makers = dict(candidates(case("meta_norm"), traced=False))
    before = sum(calls.runs)
    makers["plain torch"]().prepare("both")()()
    assert sum(calls.runs) == before
    makers["metanorm"]().prepare("both")()()
    assert sum(calls.runs) > before


def test_torch_is_not_timed_in_the_name_of_kernels(tmp_path: Path) -> None:
    """Neither where a norm has none, nor where they cannot be built."""
    quick = ("--rounds", "1", "--only", "16x64", "--no-torch-compile")
    none = run("bench", str(ROOT / "specs/iter_norm.norm"), *quick)
    unbuilt = run(
        *("bench", str(ROOT / "specs/rms_norm.norm"), *quick),
        METANORM_CC="no-such-compiler",
        METANORM_CACHE=str(tmp_path),
    )
    for done, reason in ((none, "matrix products"), (unbuilt, "the call has no kernels: ")):
        assert done.returncode == 0, done.stderr
        rows = [line for line in done.stdout.splitlines() if "│ metanorm " in line]
        assert rows and all("ran on torch" in row for row in rows)
        assert f"16x64: metanorm: ran on torch: {reason}" in done.stdout
        assert "│ plain torch " in done.stdout and "times as fast" not in done.stdout


def test_what_cannot_be_compared_is_refused_before_anything_is_timed(tmp_path: Path) -> None:
    old = tmp_path / "old.json"
    old.write_text(json.dumps({"machine": 1}))
    done = run("bench", str(ROOT / "specs/rms_norm.norm"), "--compare", str(old))
    assert done.returncode == 2 and "does not hold measurements" in done.stderr
    none = run("bench", str(ROOT / "specs/rms_norm.norm"), "--only", "no such input")
    assert none.returncode == 1 and "fits" in none.stderr


def test_without_an_input_there_is_no_table() -> None:
    done = run("bench", str(ROOT / "specs/layer_norm.norm"), "--only", "no such input")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("metanorm: no norm fits any input with 'no such input' in its name\n")


def test_only_norms_for_activations_are_timed() -> None:
    done = run("bench", str(ROOT / "specs/centralization.norm"), "--rounds", "1")
    assert done.returncode == 1
    assert done.stderr.count("only norms for activations are timed") == 4
