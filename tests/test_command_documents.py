"""What commands say and write, called in this process: documents, names, and what is left over."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import in_this
from conftest import PROGRAMS
from pydantic import TypeAdapter

from docs.schemas import MODELS
from metanorm import frontend
from metanorm.cli.list import TOPICS
from metanorm.driver import compile_specs
from metanorm.frontend import format_spec
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.runtime.dispatch import NotServed
from metanorm.source import Source
from metanorm.targets.live import module_from_files
from metanorm.workspace import library_specs

ONE = (
    "# One. Nobody, 2026.\nnorm One(k: int = 300, eps = 1e-5) {\n  input  x[N, C]\n  reduce C\n}\n"
)
TWO = "norm Two {\n  input  x[N, C]\n  reduce N\n}\n"
WRONG = "norm Wrong {\n  input  x[N, C]\n  output y\n}\n"


Streams = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Streams:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "one.norm").write_text(ONE)
    (tmp_path / "specs" / "two.norm").write_text(TWO)

    def streams(*arguments: str, stdin: str = "") -> tuple[int, str, str]:
        done = in_this(*arguments, stdin=stdin)
        return done.returncode, done.stdout, done.stderr

    return streams


# ---- JSON


SPECS = ("specs", "specs/one.norm", "-", "missing.norm")
DOCUMENTS: dict[str, tuple[tuple[str, ...], ...]] = {
    "check": tuple(("check", spec, "--format", "json") for spec in SPECS),
    "explain": tuple(
        ("explain", subject, "--json")
        for subject in (*SPECS, "GroupNorm", "group_norm.norm", "One", "mn0302", "max", "share")
    ),
    "inspect": tuple(
        ("inspect", spec, "--stage", stage, "--json")
        for spec in ("specs/one.norm", "-", "missing.norm")
        for stage in ("tokens", "ast", "ir", "fold", "sweeps", "code")
    ),
    "list": tuple(("list", topic, "--json") for topic in TOPICS if topic != "specs"),
    "version": (("version", "--json"),),
    "error": (
        ("explain", "nonsense", "--json"),
        ("inspect", "specs/one.norm", "--stage", "nonsense", "--json"),
        ("list", "nonsense", "--json"),
        ("check", "--nonsense", "--format", "json"),
        ("explain", "--json"),
        ("verify", "nowhere/", "specs", "--device", "nonsense", "--json"),
    ),
}


def validated(name: str, text: str) -> dict[str, Any]:
    """The one document in a text, which is what its schema says and nothing else."""
    document: dict[str, Any] = json.loads(text)
    assert text.isascii() and document["schema_version"] == 1
    schema = TypeAdapter(MODELS[name]).json_schema()
    assert set(document) == set(schema["properties"])
    TypeAdapter(MODELS[name]).validate_json(text)
    return document


@pytest.mark.parametrize("name", DOCUMENTS)
def test_json_is_one_document_and_stderr_is_silent(name: str, run: Streams) -> None:
    for arguments in DOCUMENTS[name]:
        code, out, err = run(*arguments, stdin=WRONG)
        document = validated(name, out)
        assert (document["error"] is None) == (name != "error"), arguments
        assert bool(err) == (name == "error"), (arguments, err)
        assert code == (2 if name == "error" else 1 if document.get("errors") else 0), arguments


def test_numbers_that_json_has_not(run: Streams) -> None:
    text = "norm A {\n  input  x[N, C]\n  output x * exp(10000) - mean(x over C)\n}\n"
    _, out, _ = run("inspect", "-", "--json", stdin=text)
    assert "Infinity" not in out and json.loads(out)["programs"]


def test_a_grouping_in_json_says_which_it_is(run: Streams) -> None:
    def aggregations(value: Any) -> list[str]:
        if isinstance(value, dict):
            here = [json.dumps(value["over"])] if "over" in value else []
            return here + aggregations([*value.values()])
        return (
            [text for item in value for text in aggregations(item)]
            if isinstance(value, list)
            else []
        )

    norm = "norm A {{\n  input  x[N, C]\n  output x - mean(x over C: {})\n}}\n"
    groupings = ("blocks(2)", "chunks(2)", "interleave(2)", "window(2)", "causal(2)")
    over = [
        aggregations(validated("inspect", run("inspect", "-", "--json", stdin=text)[1])["programs"])
        for text in map(norm.format, groupings)
    ]
    assert all(over) and len({of_norm[0] for of_norm in over}) == len(groupings)


# ---- explain


def test_explain_finds_whatever_list_lists(run: Streams) -> None:
    listed = [row["name"] for topic in TOPICS if topic != "specs" for row in TOPICS[topic]()]
    for name in [*listed, "GroupNorm", "AdaNorm", "graph_norm.norm", "graph_norm"]:
        code, out, err = run("explain", name)
        assert code == 0 and out, (name, err)
    assert {"AdaNorm", "GroupNorm"} <= set(PROGRAMS) and "graph_norm.norm" in library_specs()


def test_explain_finds_norms_by_name_and_in_files(run: Streams, tmp_path: Path) -> None:
    (tmp_path / "specs" / "one.norm").write_text(ONE + "\n" + TWO.replace("Two", "GroupNorm"))
    assert run("explain", "One")[1].startswith("One\n")
    assert "all of N" in run("explain", "GroupNorm")[1]  # the project's, before the library's
    both = run("explain", "specs/one.norm")[1]
    assert "One\n" in both and "GroupNorm\n" in both
    chosen = run("explain", "specs/one.norm", "--norm", "GroupNorm")[1]
    assert chosen.startswith("GroupNorm\n") and "\nOne\n" not in chosen
    code, _, err = run("explain", "LayerNrom")
    assert code == 2 and "did you mean `LayerNorm`?" in err


def test_explain_counts_what_runs_of_an_axis_measure(run: Streams) -> None:
    out = run("explain", "IBNNorm")[1]
    assert "2 reductions over the inputs, then 2 maps of the input's size or of a run of it" in out


@pytest.mark.parametrize(
    ("norm", "reductions"), [("T5LayerNorm", "1 reduction "), ("DynamicTanh", "0 reductions ")]
)
def test_explain_counts_what_is_measured_of_what_is_computed(
    norm: str, reductions: str, run: Streams
) -> None:
    """A square of the input is as large as it."""
    assert f"{reductions}over the inputs" in run("explain", norm)[1]


# ---- what lies in a package


def test_modules_whose_spec_is_gone(run: Streams, tmp_path: Path) -> None:
    norms = tmp_path / "norms"
    assert run("compile", "specs")[0] == run("compile", "specs", "--check")[0] == 0
    (tmp_path / "specs" / "two.norm").unlink()
    (norms / "mine.py").write_text("# written by a person\n")
    code, out, _ = run("compile", "specs", "--check")
    assert code == 1 and "norms/two.py" in out and "--prune" in out and "mine" not in out
    assert run("compile", "specs", "--diff")[0] == 1
    assert run("compile", "specs/one.norm", "--check")[0] == 0  # a part of a package
    code, _, err = run("compile", "specs")
    assert code == 0 and "norms/two.py" in err and (norms / "two.py").exists()
    assert "Two" in (norms / "__init__.py").read_text()  # it works still
    assert run("compile", "specs", "--prune")[0] == run("compile", "specs", "--check")[0] == 0
    names = {path.name for path in norms.iterdir()}
    of_one = {"one.py", "one.c", "one_processes.py", "one_processes.c"}
    assert names == {"__init__.py", "mine.py", *of_one}
    assert "Two" not in (norms / "__init__.py").read_text()


def test_what_a_person_has_changed_is_never_removed(run: Streams, tmp_path: Path) -> None:
    run("compile", "specs")
    (tmp_path / "specs" / "two.norm").unlink()
    two = tmp_path / "norms" / "two.py"
    two.write_text(two.read_text() + "\n# worth keeping\n")
    code, _, err = run("compile", "specs", "--prune")
    assert code == 0 and "edited by hand" in err and two.exists()
    assert "Two" in (tmp_path / "norms" / "__init__.py").read_text()
    assert run("compile", "specs", "--check")[0] == 1


def test_kernels_that_a_module_has_no_more(run: Streams, tmp_path: Path) -> None:
    run("compile", "specs")
    code, out, _ = run("compile", "specs", "--target", "torch", "--check")
    assert code == 1 and "norms/one.c: left over" in out
    run("compile", "specs", "--target", "torch", "--prune")
    assert not list((tmp_path / "norms").glob("*.c"))
    assert run("compile", "specs", "--target", "torch", "--check")[0] == 0


CLASHES = {
    "One.norm": "would write the module `one` where case does not count",
    "ONE.norm": "where case does not count",
    "con.norm": "is what Windows calls a device",
    "Aux.norm": "is what Windows calls a device",
    "lpt1.norm": "is what Windows calls a device",
    "groupé.norm": "has letters beyond ASCII",
    "class.norm": "cannot be the name of a Python module",
}


@pytest.mark.parametrize("name", CLASHES)
def test_names_that_clash_are_refused(name: str, run: Streams, tmp_path: Path) -> None:
    (tmp_path / "specs" / name).write_text(TWO.replace("Two", "Three"))
    code, _, err = run("compile", "specs")
    assert (
        code == 1 and err.count("MN0804]") == 1 and CLASHES[name] in err.replace("`One`", "`one`")
    )
    assert not (tmp_path / "norms").exists()


def test_a_module_that_is_there_in_another_case(run: Streams, tmp_path: Path) -> None:
    run("compile", "specs/one.norm")
    (tmp_path / "One.norm").write_text(TWO.replace("Two", "Three"))
    code, _, err = run("compile", "One.norm")
    assert code == 1 and "where case does not count" in err


def test_a_spec_that_is_called_like_the_kernels_of_another(run: Streams, tmp_path: Path) -> None:
    (tmp_path / "specs" / "one_triton.norm").write_text(TWO.replace("Two", "Three"))
    assert run("compile", "specs", "--check")[0] == 1  # missing, and nothing else
    code, _, err = run("compile", "specs", "--target", "triton")
    assert code == 1 and "`one_triton.py` of another spec" in err


# ---- specs


FORMS = {
    "an index without axes": (
        "norm A {\n  input  x[N, C], label: index[] of K = k\n  param  g[K, C] = 1\n"
        "  output g[label] * x\n}\n"
    ),
    "comments without words": "#\t\n##\n# #a\nnorm A {  #\t\n input x[N, C]\n reduce C #\x0c\n}\n",
}


@pytest.mark.parametrize("form", FORMS)
def test_a_spec_stays_valid_and_formatting_ends(form: str) -> None:
    def errors(text: str) -> list[str]:
        diagnostics = frontend.check({"a": Source.of("a", text)}, ["a"]).diagnostics
        return [d.message for d in diagnostics]

    once, problems = format_spec(Source.of("a", FORMS[form]))
    assert not problems and format_spec(Source.of("a", once))[0] == once
    assert errors(once) == errors(FORMS[form])


def test_warnings_that_a_used_file_allows() -> None:
    inner = "norm Inner {\n  input  x[N, C]\n  output x / l2(x over C)  # norm: allow MN0701\n}\n"
    outer = 'use "inner.norm"\nnorm Outer {\n  input  x[N, C]\n  output 2 * Inner(x)\n}\n'
    sources = {n: Source.of(n, t) for n, t in (("inner.norm", inner), ("outer.norm", outer))}
    for roots in (["outer.norm"], ["inner.norm"], ["inner.norm", "outer.norm"]):
        assert frontend.check(sources, roots).diagnostics == ()
    calm = Source.of("inner.norm", inner.replace("x / l2(x over C)", "2 * x"))
    needless = {**sources, "inner.norm": calm}
    assert frontend.check(needless, ["outer.norm"]).diagnostics == ()  # its author hears of it
    assert [d.code for d in frontend.check(needless, ["inner.norm"]).diagnostics] == ["MN0703"]


BUFFERS = {
    "reduce N, *S weight 1 / (2 + tanh(trust))\n  track  0.1": {"running_mean", "running_var"},
    "reduce N, *S where x > 0\n  track  0.1": {"running_mean", "running_var"},
    "let    m = mean(2 * x over N, *S track 0.1)\n"
    "  let    v = var(2 * x over N, *S track 0.1)\n"
    "  output (x - m) / sqrt(v + 1)": {"running_mean", "running_var"},
    "let    m = mean(2 * x over N, *S track 0.1)\n"
    "  let    v = var(3 * x over N, *S track 0.1)\n"
    "  output (x - m) / sqrt(v + 1)": {"running_mean", "v_running_var"},
    "let    m = mean(x over N, *S where trust > 0 track 0.1)\n"
    "  let    v = var(x over N, *S where trust > 1 track 0.1)\n"
    "  output (x - m) / sqrt(v + 1)": {"running_mean", "v_running_var"},
}


@pytest.mark.parametrize("body", BUFFERS)
def test_names_of_running_statistics(body: str) -> None:
    """One value over one pool is one group, however it is written."""
    text = f"norm A {{\n  input  x[N, C = c, *S], trust[N, *S]\n  {body}\n}}\n"
    (norm,) = frontend.check({"a": Source.of("a", text)}, ["a"]).norms["a"]
    assert {b.name for b in norm.program.buffers} == BUFFERS[body]


# ---- targets


@pytest.mark.parametrize("target", ["native", "triton"])
@pytest.mark.parametrize("choice", ["native", "triton"])
def test_kernels_that_are_demanded_and_are_not_there(target: Any, choice: Any) -> None:
    text = "norm A {\n  input  x[N, T, C]\n  output x - median(x over T)\n}\n"
    sources = {"a.norm": Source.of("a.norm", text)}
    norm = module_from_files(compile_specs(sources, ["a.norm"], Options(target=target)).files, "a")
    with use(choice), pytest.raises(NotServed, match="has no kernels"):
        norm.A()(torch.randn(2, 3, 4))
    assert norm.A()(torch.randn(2, 3, 4)).shape == (2, 3, 4)
