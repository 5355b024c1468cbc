"""`metanorm verify` as a run over norms: what one of them does wrong is its own finding."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from conftest import PROGRAMS

from metanorm import frontend
from metanorm.driver import compile_specs
from metanorm.findings import findings_to_run
from metanorm.ir.program import Program
from metanorm.options import Options
from metanorm.runtime.errors import ShapeError, SingleValueError
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.verify import jobs
from metanorm.verify import report as reports
from metanorm.verify.cases import make_example, quick_settings, settings
from metanorm.verify.compare import compare
from metanorm.verify.finding import Finding, Verification, totals
from metanorm.verify.kernels import has_kernels
from metanorm.verify.norms import findings_of_norm, verify_norm
from metanorm.verify.report import Task, tasks, verify_task
from metanorm.verify.required_errors import must_refuse
from metanorm.verify.rounding import random_rounding
from metanorm.workspace import load

SIMPLE = "norm {} {{\n  input  x[N, C]\n  output x - mean(x over C)\n}}\n"
# CrossNorm, Tang et al., 2021: the statistics of another sample.
CROSS = """norm Cross(eps = 1e-5) {
  input  x[N, C, *S], perm: index[N] of M
  let    m = mean(x over *S)
  let    s = sqrt(var(x over *S, ddof = 1) + eps)
  output (x - m) / s * s[N -> M][perm] + m[N -> M][perm]
}
"""
# A scale that is learned: its gradient is a difference of numbers that are as large as the mean.
CANCELS = """norm Cancels(eps = 1e-12) {
  input  x[N, C]
  param  g[C] = 1, h[C] = 1
  let    z = g * x + h * x^2 / 1e4
  output (z - mean(z over N)) / sqrt(var(z over N) + eps)
}
"""


def compiled(text: str, target: str = "torch") -> tuple[Program, ModuleType]:
    """The program of the first norm of a text, and the module of all."""
    sources = {"a.norm": Source.of("a.norm", text)}
    norm, *_ = frontend.check(sources, ["a.norm"]).norms["a.norm"]
    files = compile_specs(sources, ["a.norm"], Options(target=target)).files  # type: ignore[arg-type]
    return norm.program, module_from_files(files, "a")


def tasks_of(*texts: str, **options: bool) -> list[Task]:
    sources = {f"a{i}.norm": Source.of(f"a{i}.norm", text) for i, text in enumerate(texts)}
    checked = frontend.check(sources, list(sources))
    return tasks(checked, sources, list(sources), Options(target="torch"), quick=True)


# ---- one bad norm


BAD = {
    "in the module": ("metanorm.verify.compare.call_module", "raised ArithmeticError: lost"),
    "in the oracle": ("metanorm.verify.reference.interpret", "could not be checked: Arithm"),
    "in a comparison": ("metanorm.verify.compare.difference", "could not be checked: Arithm"),
    "in the inputs": ("metanorm.verify.compare.make_example", "could not be checked: Arithm"),
}


@pytest.mark.parametrize("stage", BAD)
def test_an_error_anywhere_is_a_finding(stage: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*_: object, **__: object) -> None:
        raise ArithmeticError("lost")

    where, said = BAD[stage]
    module, _, name = where.rpartition(".")
    monkeypatch.setattr(sys.modules[module], name, lost)
    report = verify_task(tasks_of(SIMPLE.format("One"))[0])
    assert not report.good and len(report.findings) > 5
    assert all(f.outcome.startswith(said) for f in report.findings)


@pytest.mark.parametrize("function", ["findings_of_norm", "_module"])
def test_an_error_outside_of_settings_ends_one_norm(
    function: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = getattr(reports, function)

    def sometimes(task: Task | Program, *more: object) -> object:
        if "Two" in (getattr(task, "norm", ""), getattr(task, "name", "")):
            raise LookupError("no such thing")
        return right(task, *more)

    monkeypatch.setattr(reports, function, sometimes)
    verifications = [
        verify_task(t) for t in tasks_of(*(SIMPLE.format(n) for n in ("One", "Two", "Three")))
    ]
    assert [r.good for r in verifications] == [True, False, True]
    assert verifications[1].problem == "LookupError: no such thing"
    assert totals(verifications).endswith("1 BAD: Two")


def test_a_norm_without_checks_is_not_good() -> None:
    assert not Verification("Empty").good


def test_files_with_errors_are_left_out(tmp_path: Path) -> None:
    wrong = SIMPLE.format("Wrong").replace("over C", "over D")
    texts = (wrong, SIMPLE.format("Right"), 'use "a0.norm"\n' + SIMPLE.format("User"))
    for i, text in enumerate(texts):
        (tmp_path / f"a{i}.norm").write_text(text)
    (right,) = findings_to_run(load([str(tmp_path)])).roots_without_errors
    assert right.endswith("a1.norm")


# ---- settings


def test_empty_leading_groups() -> None:
    """`*B` of length zero, and a second output that is not a statistic."""
    program, module = compiled(
        "norm A(eps = 1e-5) {\n  input  x[*B, D = dim]\n"
        "  output x / sqrt(mean(x^2 over D) + eps), h = 2 * x, m = mean(x over D)\n}\n"
    )
    (empty,) = (s for s in settings(program) if s.empty)
    assert make_example(program, empty).inputs["x"].numel() == 0  # type: ignore[union-attr]
    assert compare(program, module, empty).good


def test_rows_of_other_samples() -> None:
    program, module = compiled(CROSS)
    finding_by_setting = {f.setting: f for f in findings_of_norm(program, module)}
    assert {"empty", "permuted"} <= set(finding_by_setting)
    assert [f for f in finding_by_setting.values() if not f.good] == []
    index = make_example(program, next(s for s in settings(program) if s.permuted)).inputs["perm"]
    assert index is not None and sorted(index.tolist()) == list(range(len(index)))


def test_where_there_is_nothing_to_choose_from_there_is_no_setting() -> None:
    text = """norm A {
  input  x[M, C], label: index[C] of M
  let    m = mean(x over C)
  output x - m - m[label]
}
"""
    program, module = compiled(text)
    names = {f.setting for f in findings_of_norm(program, module)}
    assert "empty" not in names and "train" in names


def test_a_first_look_has_each_hazard() -> None:
    for name in ("BatchNorm", "MaskedLayerNorm", "ConditionalInstanceNorm"):
        program = PROGRAMS[name]
        first, every = list(quick_settings(program)), list(settings(program))
        assert 8 <= len(first) < len(every) / 2
        assert {s.dtype for s in first} >= {torch.float64, torch.float32, torch.bfloat16}
        assert any(s.empty for s in first) and any("NaN" in s.values for s in first)
        assert {s.name for s in every if s.switches or s.without} <= {s.name for s in first}


# ---- ill-conditioned, and wrong


def test_what_no_float32_can_tell_is_ill_conditioned() -> None:
    program, module = compiled(CANCELS)
    norm_findings = list(findings_of_norm(program, module))
    assert [f for f in norm_findings if not f.good] == []
    doubtful = [f for f in norm_findings if f.outcome == "ill-conditioned"]
    assert doubtful and all((f.error or 0) <= f.moved for f in doubtful)
    assert all("the oracle itself moves by" in f.text() for f in doubtful)


def test_what_is_wrong_is_called_so_in_an_ill_conditioned_setting() -> None:
    """A tenth is no rounding error, even where rounding is large; nor is a formula that cancels."""
    text = SIMPLE.format("A").replace(
        "x - mean(x over C)", "(x - mean(x over C)) / sqrt(var(x over C) + 1e-5)"
    )
    program, module = compiled(text)
    far = next(s for s in settings(program) if s.name == "mean 1e4, float32")
    assert compare(program, module, far).good
    right = module.a
    module.__dict__["a"] = lambda *arguments: 1.1 * right(*arguments)
    assert compare(program, module, far).outcome.endswith("is off")

    def cancelling(x: torch.Tensor, *_: object) -> torch.Tensor:
        mean = x.mean(1, keepdim=True)
        return (x - mean) / ((x * x).mean(1, keepdim=True) - mean * mean + 1e-5).abs().sqrt()

    module.__dict__["a"] = cancelling
    assert compare(program, module, next(settings(program))).good
    assert not compare(program, module, far).good


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_rounding_moves_by_a_unit_in_the_last_place(dtype: torch.dtype) -> None:
    x = (torch.randn(1000) * 100).to(dtype)
    moved = random_rounding(dtype, 0)(x.double())
    assert (moved != x.double()).all()
    steps = (moved - x.double()).abs()
    assert (steps <= x.double().abs() * torch.finfo(dtype).eps).all()
    assert (steps >= x.double().abs() * torch.finfo(dtype).eps / 2).all()
    assert random_rounding(dtype, 0)(torch.zeros(3).double()).eq(0).all()


# ---- refusals


TRACKED = """norm Tracked(eps = 1e-5) {
  input  x[N, C = num_features]
  reduce N
  track  0.1
}
"""
OFF = TRACKED.replace("Tracked", "Off").replace("0.1", "0.1 off")
LIVE = """norm Live(eps = 1e-5) {
  input  x[N, C]
  let    spread = var(x over C, ddof = 1)
  output x / sqrt(spread + eps)
}
"""


def refused(program: Program, module: ModuleType, name: str) -> Finding:
    return compare(program, module, next(s for s in settings(program) if s.name == name))


@pytest.mark.parametrize("text", [TRACKED, OFF, LIVE], ids=["tracked", "off", "live"])
def test_a_refusal_is_right_where_the_spec_asks_for_it(text: str) -> None:
    program, module = compiled(text)
    single = {"single element": False, "single element, train": True}
    asked = {s.name: must_refuse(program, s, make_example(program, s)) for s in settings(program)}
    assert all(f.good for f in findings_of_norm(program, module))
    for name in single:
        assert (refused(program, module, name).outcome == "refused") is asked[name]
    assert [name for name, must in asked.items() if must and name not in single] == []


@pytest.mark.parametrize("mistake", ["refuses in evaluation", "never refuses", "refuses otherwise"])
def test_a_wrong_refusal_is_found(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    program, module = compiled(TRACKED)
    right = module.Tracked.forward

    def forward(norm: torch.nn.Module, x: torch.Tensor) -> object:
        if mistake == "refuses in evaluation" and len(x) == 1 and not norm.training:
            raise SingleValueError("Expected more than 1 value")
        if mistake == "refuses otherwise" and len(x) == 1 and norm.training:
            raise ShapeError("another reason")
        if mistake == "never refuses" and len(x) == 1 and norm.training:
            return x
        return right(norm, x)

    monkeypatch.setattr(module.Tracked, "forward", forward)
    wrong = {f.setting for f in findings_of_norm(program, module) if not f.good}
    expected = "single element" if mistake == "refuses in evaluation" else "single element, train"
    assert wrong == {expected}


def test_the_largest_error_is_that_of_float64() -> None:
    """By the dtype of a setting, not by its name, in which `float` may stand."""
    program, module = compiled(SIMPLE.format("A"))
    dtype_by_setting = {f.setting: f.dtype for f in findings_of_norm(program, module)}
    assert (dtype_by_setting["train"], dtype_by_setting["bfloat16"]) == ("float64", "bfloat16")
    named = Finding("train, float_mean=False", "ok", 1e-3)
    short = Finding("train", "ok", 1e-1, dtype="bfloat16")
    assert Verification("A", (named, short)).largest_error == 1e-3


# ---- kernels


def test_checks_on_kernels_are_counted() -> None:
    program, module = compiled(SIMPLE.format("A"), "native")
    norm_findings = list(findings_of_norm(program, module, chosen=quick_settings))
    assert {f.on for f in norm_findings} == {"kernels", "plain torch"}
    on_torch = Verification("A", tuple(f for f in norm_findings if f.on == "plain torch"))
    both = Verification("A", tuple(norm_findings))
    assert on_torch.on_kernels == 0 < both.on_kernels < len(norm_findings)


def test_norms_without_kernels_have_no_checks_on_them() -> None:
    """Also where another norm of the file has some."""
    text = "norm A {\n  input  x[N, T]\n  output x - median(x over T)\n}\n"
    program, module = compiled(text + SIMPLE.format("B"), "native")
    assert program.name == "A" and has_kernels(module)
    norm_findings = list(findings_of_norm(program, module, chosen=quick_settings))
    assert norm_findings and {f.on for f in norm_findings} == {"plain torch"}


# ---- processes


def crashing(pipe: Connection) -> None:
    """What a worker is here: it dies at a norm of a certain name."""
    right = jobs.verify_task

    def verified(task: Task) -> Verification:
        if task.norm == "Two":
            os.kill(os.getpid(), 11)
        return right(task)

    jobs.verify_task = verified
    WORK(pipe)


WORK = jobs._work


@pytest.mark.extended
def test_a_process_that_dies_takes_one_norm_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("metanorm.verify.jobs._work", crashing)
    tasks = tasks_of(*(SIMPLE.format(name) for name in ("One", "Two", "Three")))
    by_norm = {r.norm: r for r in jobs.verify_in_processes(tasks, 2) if r is not None}
    assert set(by_norm) == {"One", "Two", "Three"}
    assert by_norm["One"].good and by_norm["Three"].good
    assert by_norm["Two"].problem == "the process ended: signal 11"


@pytest.mark.parametrize("action", [signal.SIG_IGN, signal.SIG_DFL], ids=["python", "command"])
def test_a_process_that_ends_before_its_task_is_a_finding(
    action: signal.Handlers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one that has no memory to import torch; the task cannot even be sent.

    Python ignores SIGPIPE, and the command has it end the process.
    """
    context = get_context("spawn")

    def ended() -> jobs._Worker:
        ours, theirs = context.Pipe()
        theirs.close()
        process = context.Process(target=os._exit, args=(3,))
        process.start()
        process.join()
        return jobs._Worker(process, ours)

    monkeypatch.setattr(jobs, "_start_worker", ended)
    tasks = tasks_of(SIMPLE.format("One"), SIMPLE.format("Two"))
    before = signal.signal(signal.SIGPIPE, action)
    try:
        verifications = [
            report for report in jobs.verify_in_processes(tasks, 1) if report is not None
        ]
    finally:
        signal.signal(signal.SIGPIPE, before)
    assert [(r.norm, r.problem) for r in verifications] == [
        (name, "the process ended: exit code 3") for name in ("One", "Two")
    ]


# ---- the command


def lines(*arguments: str, folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "metanorm", "verify", "--quick", *arguments]
    env = {**os.environ, "COLUMNS": "40"}
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True, env=env) as done:
        assert done.stdout is not None
        yield from done.stdout


def test_the_command_says_all_of_it(tmp_path: Path) -> None:
    """Rows come one by one, whatever the width of a terminal; a file with an error costs no row."""
    (tmp_path / "a.norm").write_text(SIMPLE.format("First"))
    (tmp_path / "b.norm").write_text(CROSS)
    (tmp_path / "c.norm").write_text(SIMPLE.format("Wrong").replace("over C", "over D"))
    (tmp_path / "pyproject.toml").write_text('[tool.metanorm]\ntarget = "torch"\nspecs = ["."]\n')
    head, *rows = lines(folder=tmp_path)
    assert head.split()[:4] == ["norm", "checks", "on", "kernels"]
    assert [row.split()[0] for row in rows] == ["First", "Cross", "2"]
    assert rows[-1].startswith("2 norms, ") and "all good" in rows[-1]
    document = json.loads("".join(lines("--json", folder=tmp_path)))
    assert document["schema_version"] == 1 and document["errors"] == 1 and not document["good"]
    assert {norm["norm"] for norm in document["norms"]} == {"First", "Cross"}
    assert all(f["outcome"] in ("ok", "refused") for n in document["norms"] for f in n["findings"])


UNDEFINED = {
    "everywhere": ("output x * log(0 - 1 - max(x, 0))", "no output has a finite number"),
    "in evaluation": (
        "output mode(train: x, eval: x * log(0 - 1 - max(x, 0)))",
        "no output has a finite number",
    ),
    "of zeros": ("output x / sum(abs(x) over C)", "undefined"),
}


@pytest.mark.parametrize("where", UNDEFINED)
def test_a_norm_without_finite_results_is_not_called_good(where: str) -> None:
    text, outcome = UNDEFINED[where]
    report = verify_norm(*compiled(f"norm Undefined {{ input x[N, C] {text} }}"))
    odd = [f for f in report.findings if f.outcome == outcome]
    assert odd and not any(f.good for f in odd)
    assert any(f.bad for f in odd) == (outcome != "undefined")
    assert not report.good or where == "of zeros"
    assert f"{report.count('undefined')} of them without a number" in totals([report])


@pytest.mark.parametrize("direction", ["FORWARD", "BACKWARD"])
def test_kernels_that_a_working_compiler_rejects_are_at_fault(
    direction: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each norm of a file, though a process warns once."""

    def spoilt(*args: Any) -> Any:
        result = compile_specs(*args)
        line = f"_TRAIN_{direction}\n"
        c = result.files["a.c"].replace(line, f"{line}#error spoilt\n")
        return replace(result, files={**result.files, "a.c": c})

    monkeypatch.setattr(reports.driver, "compile_specs", spoilt)
    monkeypatch.setattr(reports, "_module_cache", {})
    sources = {"a.norm": Source.of("a.norm", SIMPLE.format("A") + SIMPLE.format("B"))}
    checked = frontend.check(sources, ["a.norm"])
    for task in tasks(checked, sources, ["a.norm"], Options(), quick=True):
        verification = verify_task(task)
        assert not verification.good
        assert verification.problem.startswith("kernels do not compile: "), verification
        assert "#error spoilt" in verification.problem and "report them" in verification.problem
