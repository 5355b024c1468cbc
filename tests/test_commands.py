"""The command line: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import heeds_interrupts, in_a_child
from commands import in_this as run
from conftest import PROGRAMS, ROOT

from metanorm.diagnostics.registry import all_codes
from metanorm.explain.kernels import kernels_text
from metanorm.ir.ops import public
from metanorm.passes.pipeline import optimize
from metanorm.stages import STAGES

GOOD = """
# Centred. Nobody, 2026.
norm Centred(eps = 1e-5) {
  input  x[N, C]
  reduce C
  affine C
}
""".lstrip()
BAD = GOOD.replace("affine C", "affine D")
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one good spec, as the current one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "centred.norm").write_text(GOOD)
    return tmp_path


# ---- compile


@pytest.mark.parametrize("run", [run, in_a_child], ids=["here", "in a child"])
def test_compile_writes_a_package_once(run: Command, folder: Path) -> None:
    first = run("compile", "specs", "-o", "norms")
    assert first.returncode == 0
    assert "norms/centred.py: written" in first.stdout + first.stderr
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in (folder / "norms").glob("*.py")}
    assert {p.name for p in before} == {"__init__.py", "centred.py", "centred_processes.py"}
    assert run("compile", "specs", "-o", "norms").returncode == 0
    assert before == {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in before}
    assert run("compile", "specs", "-o", "norms", "--check").returncode == 0


CHANGES = {
    "spec changed": ("specs/centred.norm", "eps = 1e-5", "eps = 1e-6"),
    "edited by hand": ("norms/centred.py", "as_number(eps, ", "as_number(2 * eps, "),
    "made by another version": ("norms/centred.py", "by metanorm 0.1.0", "by metanorm 0.0.9"),
}


@pytest.mark.parametrize("status", CHANGES)
def test_check_says_what_has_changed(status: str, folder: Path) -> None:
    run("compile", "specs", "-o", "norms")
    name, old, new = CHANGES[status]
    path = folder / name
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    before = (folder / "norms" / "centred.py").read_text()
    done = run("compile", "specs", "-o", "norms", "--check")
    assert done.returncode == 1
    assert f"norms/centred.py: {status}" in done.stdout + done.stderr
    shown = run("compile", "specs", "-o", "norms", "--diff")
    assert shown.stdout.count("\n@@") >= 1
    assert (folder / "norms" / "centred.py").read_text() == before


def test_what_was_edited_is_not_overwritten_unasked(folder: Path) -> None:
    run("compile", "specs", "-o", "norms")
    path = folder / "norms" / "centred.py"
    generated = path.read_text()
    path.write_text(generated.replace("as_number(eps, ", "as_number(2 * eps, "))
    done = run("compile", "specs", "-o", "norms")
    assert done.returncode == 1 and "--force" in done.stderr + done.stdout
    assert path.read_text() != generated
    assert run("compile", "specs", "-o", "norms", "--force").returncode == 0
    assert path.read_text() == generated


def test_nothing_is_written_where_a_spec_is_wrong(folder: Path) -> None:
    (folder / "specs" / "wrong.norm").write_text(BAD.replace("Centred", "Wrong"))
    done = run("compile", "specs", "-o", "norms")
    assert done.returncode == 1 and "MN0302" in done.stdout + done.stderr
    assert not (folder / "norms").exists()


def test_compile_to_standard_output_writes_no_file(folder: Path) -> None:
    done = run("compile", "-", "--stdout", stdin=GOOD)
    assert done.returncode == 0 and "class Centred(nn.LayerNorm):" in done.stdout
    assert [p.name for p in folder.iterdir()] == ["specs"]


@pytest.mark.parametrize("output", ["a file", "in a file"])
def test_a_package_that_cannot_be_written(output: str, folder: Path) -> None:
    (folder / "taken").write_text("mine")
    done = run("compile", "specs", "-o", "taken" if output == "a file" else "taken/norms")
    assert done.returncode in (1, 2) and done.stderr
    assert (folder / "taken").read_text() == "mine"


def test_output_depends_on_nothing_but_specs(folder: Path) -> None:
    library = str(ROOT / "specs")
    one = in_a_child("compile", library, "--stdout", PYTHONHASHSEED="1").stdout
    other = in_a_child("compile", "specs", "--stdout", folder=ROOT, PYTHONHASHSEED="2").stdout
    assert one == other and str(ROOT) not in one


# ---- check


@pytest.mark.parametrize("run", [run, in_a_child], ids=["here", "in a child"])
def test_check_ends_by_what_it_finds(run: Command, folder: Path) -> None:
    assert run("check", "specs").returncode == 0
    assert run("check", "-", stdin=BAD).returncode == 1
    assert run("check", "missing.norm").returncode == 1
    assert run("check", "--formt", "json").returncode == 2


def test_formats_of_check(folder: Path) -> None:
    report = json.loads(run("check", "-", "--format", "json", stdin=BAD).stdout)
    assert report["errors"] == 1 and report["diagnostics"][0]["code"] == "MN0302"
    assert report["diagnostics"][0]["primary"]["start"]["line"] == 5
    sarif = json.loads(run("check", "-", "--format", "sarif", stdin=BAD).stdout)
    (result,) = sarif["runs"][0]["results"]
    assert sarif["version"] == "2.1.0" and result["ruleId"] == "MN0302"
    github = run("check", "-", "--format", "github", stdin=BAD).stdout
    assert github.startswith("::error ") and "line=5" in github


def test_check_imports_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['metanorm', 'check', 'specs']\n"
        "from metanorm.cli import main\n"
        "try:\n  main()\nexcept SystemExit as end:\n  assert not end.code\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


# ---- fmt


def names_of_one(name: str) -> str:
    return GOOD.replace("Centred", name)


CLASHES = {
    "two norms of a name": {"a.norm": names_of_one("Same"), "b.norm": names_of_one("Same")},
    "case alone": {"a.norm": names_of_one("One"), "A.norm": names_of_one("Other")},
    "a space": {"a b.norm": names_of_one("One")},
    "a word of Python": {"class.norm": names_of_one("One")},
    "a module that hides a norm": {"One.norm": names_of_one("Two"), "b.norm": names_of_one("One")},
}


@pytest.mark.parametrize("clash", CLASHES)
def test_check_and_compile_refuse_the_same_names(clash: str, folder: Path) -> None:
    specs = folder / "clashing"
    specs.mkdir()
    for name, text in CLASHES[clash].items():
        (specs / name).write_text(text)
    for command in (("check", "clashing"), ("compile", "clashing", "-o", "made")):
        done = run(*command)
        assert done.returncode == 1
        assert "MN0804" in done.stdout + done.stderr
    assert not (folder / "made").exists()


def test_check_allows_a_name_in_each_folder(folder: Path) -> None:
    for name in ("one", "other"):
        (folder / name).mkdir()
        (folder / name / "same.norm").write_text(GOOD)
    assert run("check", "one", "other").returncode == 0


def test_fmt_mends_and_checks(folder: Path) -> None:
    untidy = folder / "untidy.norm"
    untidy.write_text(GOOD.replace("  input  x[N, C]", " input x[N,C]  # the input"))
    assert run("fmt", "--check", "untidy.norm").returncode == 1
    assert "+  input" in run("fmt", "--diff", "untidy.norm").stdout
    assert run("fmt", "untidy.norm").returncode == 0
    assert run("fmt", "--check", "untidy.norm").returncode == 0
    assert "  input  x[N, C]  # the input\n" in untidy.read_text()
    assert run("fmt", "-", stdin=untidy.read_text()).stdout == untidy.read_text()


def test_fmt_leaves_a_broken_file_alone(folder: Path) -> None:
    failing = folder / "failing.norm"
    failing.write_text(GOOD + "norm {")
    assert run("fmt", "failing.norm").returncode == 1
    assert failing.read_text() == GOOD + "norm {"


# ---- explain, inspect, list


def test_explain_codes_operations_and_specs(folder: Path) -> None:
    assert run("explain", "mn0302").stdout.startswith("## MN0302: ")
    assert "var(x over P)" in run("explain", "var").stdout
    spec = run("explain", "specs/centred.norm").stdout
    for part in ("In equations", "What is pooled", "What is learned", "Do samples influence"):
        assert part in spec
    (facts,) = json.loads(run("explain", "specs/centred.norm", "--json").stdout)["norms"]
    assert facts["norm"] == "Centred" and facts["samples_meet_in_training"] is False
    unknown = run("explain", "MN9999")
    assert unknown.returncode == 2 and "MN9999" in unknown.stderr


def test_explain_says_what_a_norm_is_for(folder: Path) -> None:
    weight = str(ROOT / "specs/weight_norm.norm")
    text = run("explain", weight).stdout
    assert text.startswith("WeightNorm, for a weight\n")
    assert (
        "g[O], initially l2(v over *I)" in text and "in C and in Triton, for rows along I" in text
    )
    assert "Do samples influence" not in text
    loss = str(ROOT / "specs/standardization_loss.norm")
    assert json.loads(run("explain", loss, "--json").stdout)["norms"][0]["target"] == "loss"
    assert "in evaluation: yes" in run("explain", loss).stdout


# What is shown of norms that have no axis to divide among processes.
UNDIVIDED = {
    "exchange": re.compile(r"(\w+ exchanges nothing\n\n?)+"),
    "processes": re.compile(r"# No axis of a norm here can be divided.\n"),
}


@pytest.mark.parametrize(
    ("spec", "is_divided"),
    [("weight_norm", False), ("centralization", False), ("standardization_loss", True)],
)
def test_inspect_prints_norms_for_other_things(spec: str, is_divided: bool, folder: Path) -> None:
    for stage in STAGES:
        shown = run("inspect", str(ROOT / f"specs/{spec}.norm"), "--stage", stage)
        assert shown.returncode == 0
        if stage in UNDIVIDED and not is_divided:
            assert UNDIVIDED[stage].fullmatch(shown.stdout)
        else:
            assert len(shown.stdout) > 100


@pytest.mark.needs_torch
def test_new_begins_like_a_norm_for_something_else(folder: Path) -> None:
    assert run("new", "Mine", "--like", "weight_norm").returncode == 0
    assert "norm Mine(eps = 1e-12) for weight {" in (folder / "mine.norm").read_text()
    assert run("verify", "mine.norm").returncode == 0


@pytest.mark.parametrize("stage", STAGES)
def test_inspect_prints_every_stage(stage: str, folder: Path) -> None:
    text = run("inspect", "specs/centred.norm", "--stage", stage)
    assert text.returncode == 0 and len(text.stdout) > 100
    data = run("inspect", "specs/centred.norm", "--stage", stage, "--json")
    assert data.returncode == 0 and json.loads(data.stdout)


def test_list_is_complete() -> None:
    errors = run("list", "errors").stdout
    assert all(code in errors for code in all_codes())
    rows = json.loads(run("list", "operations", "--json").stdout)["rows"]
    assert [row["name"] for row in rows] == [row.usage for row in public()]
    assert "GroupNorm" in run("list", "specs").stdout
    assert "torch" in run("list", "targets").stdout
    assert run("list", "nonsense").returncode == 2


def test_list_specs_says_what_each_runs_on() -> None:
    listed = json.loads(run("list", "specs", "--json").stdout)["rows"]
    rows = {row["name"]: row for row in listed}
    assert sorted(rows) == sorted(PROGRAMS)
    assert rows["GroupNorm"] == {
        "name": "GroupNorm",
        "file": "group_norm.norm",
        "status": "kernels",
        "citation": "Wu & He, 2018, arXiv 1803.08494",
        "meaning": "Group Normalization. Wu & He, 2018, arXiv 1803.08494.",
    }
    assert rows["Muon"]["status"] == "torch: matrix products, which torch's BLAS does as fast"
    for name, row in rows.items():
        kernels = kernels_text(optimize(PROGRAMS[name]))
        assert (row["status"] == "kernels") == kernels.startswith("in C")
        assert row["status"].removeprefix("torch: ") in ("kernels", kernels.partition(": ")[2])


def test_list_specs_is_a_table_of_one_line_each() -> None:
    head, *rows = run("list", "specs").stdout.splitlines()
    assert head.split() == ["name", "file", "status", "citation"] and len(rows) == len(PROGRAMS)
    starts = [head.index(column) for column in ("file", "status", "citation")]
    assert all(row[start - 1] == " " != row[start] for row in rows for start in starts[:2])


# ---- verify, new, version


@pytest.mark.needs_torch
def test_verify_ends_by_what_it_finds(folder: Path) -> None:
    done = run("verify", "specs")
    assert done.returncode == 0 and "good" in done.stdout
    assert run("verify", "-", stdin=BAD).returncode == 1


def test_new_writes_what_checks_and_overwrites_nothing(folder: Path) -> None:
    assert run("new", "MyNorm").returncode == 0
    (spec,) = (p for p in folder.rglob("*.norm") if p.name != "centred.norm")
    assert run("check", str(spec.relative_to(folder))).returncode == 0
    before = spec.read_text()
    assert run("new", "MyNorm").returncode != 0
    assert spec.read_text() == before
    for name in ("class", "Class", "1st", ""):
        assert run("new", name).returncode == 2


@pytest.mark.parametrize("name", ["reduce", "torch", "Tensor", "_Mine"])
def test_new_writes_no_spec_that_check_refuses(name: str, folder: Path) -> None:
    before = sorted(folder.rglob("*.norm"))
    done = run("new", name)
    assert done.returncode == 2 and f"`{name}`" in done.stderr
    assert done.stderr.endswith("choose another name\n")
    assert sorted(folder.rglob("*.norm")) == before


def test_a_word_of_python_names_no_norm(folder: Path) -> None:
    assert "word of Python" in run("new", "Lambda").stderr
    assert not (folder / "lambda.norm").exists()


@pytest.mark.parametrize("run", [run, in_a_child], ids=["here", "in a child"])
def test_version_and_help(run: Command) -> None:
    assert "0.1.0" in run("version").stdout
    assert "compile" in run("--help").stdout
    assert run("complie").returncode == 2


# ---- configuration and interruptions


def test_a_norm_that_moves_to_another_file_is_exported_once(folder: Path) -> None:
    assert run("compile", "specs", "-o", "out").returncode == 0
    (folder / "specs" / "centred.norm").rename(folder / "specs" / "moved.norm")
    assert run("compile", "specs", "-o", "out").returncode == 0
    text = (folder / "out" / "__init__.py").read_text()
    assert "from .moved import Centred" in text and "from .centred" not in text


def test_configuration_is_read_and_checked(folder: Path) -> None:
    project = folder / "pyproject.toml"
    project.write_text('[tool.metanorm]\nspecs = ["specs"]\nout = "made"\n')
    assert run("compile").returncode == 0
    assert (folder / "made" / "centred.py").exists()
    lines = {
        "spec = 1": "`spec`",
        'specs = "specs"': 'specs: Input should be an array, such as ["specs"]',
        'rename = ["eps"]': "rename: Input should be a table",
        "specs = [": "TOML",
    }
    for line, hint in lines.items():
        project.write_text(f"[tool.metanorm]\n{line}\n")
        done = run("check")
        assert done.returncode == 2 and hint in done.stderr


@pytest.mark.parametrize("command", ["list errors", "explain MN0302", "--help"])
def test_where_the_reader_has_gone_a_run_ends_as_other_filters_do(command: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "metanorm", *command.split()], stdout=writer, stderr=subprocess.PIPE
    )
    os.close(writer)
    assert done.returncode == -signal.SIGPIPE and not done.stderr


def test_a_bug_is_reported_in_two_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from metanorm import cli

    def failing(wanted: str) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(cli, "app", failing)
    monkeypatch.delenv("METANORM_DEBUG", raising=False)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 3
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "internal error: RuntimeError: oh" in lines[0]


@pytest.mark.parametrize("name", ["class.norm", "my norm.norm"])
@pytest.mark.parametrize("command", ["inspect", "explain", "repro"])
def test_files_that_cannot_be_modules(command: str, name: str, tmp_path: Path) -> None:
    assert "MN0804" not in _of_no_module(command, name, tmp_path, ends=0)


@pytest.mark.needs_torch
@pytest.mark.parametrize("name", ["class.norm", "my norm.norm"])
@pytest.mark.parametrize("command", ["verify", "test", "bench"])
def test_commands_that_run_modules_say_what_a_file_has_to_be_called(
    command: str, name: str, tmp_path: Path
) -> None:
    assert "MN0804" in _of_no_module(command, name, tmp_path, ends=1)


def _of_no_module(command: str, name: str, folder: Path, ends: int) -> str:
    """What a command says of a good spec in a file of this name."""
    text = "norm A {\n  input x[N, C]\n  reduce C\n  example x = [[1, 3]] gives [[-1, 1]]\n}\n"
    (folder / name).write_text(text)
    done = run(command, name, folder=folder)
    assert done.returncode == ends, done.stderr
    assert "internal error" not in done.stdout + done.stderr
    return done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals end no process there")
def test_an_interrupt_while_the_command_is_imported(tmp_path: Path) -> None:
    """No traceback, as later: here at the import of the first package that takes time."""
    (tmp_path / "typer.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)\n")
    done = subprocess.run(
        [sys.executable, "-m", "metanorm", "check", "."],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"},
        capture_output=True,
        preexec_fn=heeds_interrupts,
    )
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")
