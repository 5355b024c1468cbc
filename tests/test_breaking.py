"""`metanorm breaking`: what a change of a spec is to those who use its module."""

from __future__ import annotations

import json
import subprocess
from itertools import count
from pathlib import Path

import pytest
from commands import in_this as run
from conftest import PROGRAMS

pytestmark = pytest.mark.needs_torch
pytest.importorskip("torch")

OLD = """norm Mine(groups: int, eps = 1e-5) {
  input  x[N, C = num_channels, *S]
  reduce C: blocks(groups), *S
  affine C
}
"""
TRACKED = """norm Mine(eps = 1e-5) {
  input  x[N, C = width, *S]
  reduce N, *S
  affine C
  track  0.1
}
"""
EQUATIONS = """norm Mine(eps = 1e-5) {
  input  x[N, C = width]
  param a[C] = 1
  param b[C] = 0
  output x * a + b
}
"""
OPTIONAL = "norm Mine {\n  input x[N, C], y[N, C] = 1\n  output x * y\n}\n"
CHOICE = """norm Mine(mode: "a" | "b" = "a") {
  input  x[N, C]
  output where(mode == "a", x, x * 2)
}
"""
INVERTIBLE = """norm Mine {
  input  x[N, C = width]
  param  b[C] = 1
  output x + b
  entry  inverse(y[N, C]) {
    output y - b
  }
}
"""
POOLED = """norm Mine {
  input  x[N, C, T]
  let    y[N, C] = mean(x over T)
  output y
  entry  turned(y[N, C]) {
    let    z[C, N] = 2 * y
    output z
  }
}
"""
CALLING = """norm Added {
  input  a[N, C], s[N, C] = 1, h[N, C] = 0
  output a + h + s
}
norm Mine {
  input  x[N, C], s[N, C]
  output Added(x, s)
}
"""
# The old text, what becomes what in it, the lines that are printed, and whether they break.
CHANGES = {
    "nothing": (OLD, {}, [], False),
    "a comment": (OLD, {"norm Mine": "# Mine.\nnorm Mine"}, [], False),
    "the name of an axis": (OLD, {"N, C =": "M, D =", "reduce C": "reduce D",
                                  "affine C": "affine D"}, [], False),
    "the same in other words": (EQUATIONS, {"x * a + b": "b + a * x"}, [], False),
    "the name of a parameter": (EQUATIONS, {"param a": "param c", "* a": "* c"}, [
        "`a` is gone from the state dict",
        "`c` is new in the state dict, which older ones lack"], True),
    "the shape of a parameter": (EQUATIONS, {"a[C]": "a[]"}, [
        "`a` has the shape () instead of (width)"], True),
    "the order of parameters": (EQUATIONS, {
        "  param a[C] = 1\n  param b[C] = 0\n": "  param b[C] = 0\n  param a[C] = 1\n"}, [
        "parameters come in the order `b`, `a` instead of `a`, `b`"], True),
    "what a parameter begins with": (EQUATIONS, {"b[C] = 0": "b[C] = 1"}, [
        "`b` begins with 1 instead of 0 (breaks nothing)"], False),
    "running statistics": (TRACKED, {"  track  0.1\n": ""}, [
        "`running_mean` is gone from the state dict"], True),
    "a default": (OLD, {"1e-5": "1e-3"}, ["`eps` is 0.001 by default instead of 1e-05"], True),
    "a required argument": (OLD, {"eps = 1e-5": "eps: float"}, [
        "the argument `eps` is required"], True),
    "an argument that is gone": (EQUATIONS, {"(eps = 1e-5)": ""}, [
        "the argument `eps` is gone"], True),
    "another input": (EQUATIONS, {"  param a": "  input  y[N, C]\n  param a", "+ b": "+ b + y"}, [
        "the input `y` is new and required"], True),
    "another result": (EQUATIONS, {"x * a + b": "x * a - b"}, [
        "the gradient of `b` differs by up to"], True),
    "the interval of a parameter": (EQUATIONS.replace("a[C] = 1", "a[C] = 1 in [0, 1]"), {
        "[0, 1]": "[0, 2]"}, ["`a` is kept in [0, 2] instead of [0, 1]"], True),
    "an interval that is gone": (EQUATIONS.replace("a[C] = 1", "a[C] = 1 in [0, 1]"), {
        " in [0, 1]": ""}, ["`a` is no longer kept in [0, 1] (breaks nothing)"], False),
    "what the first batch gives": (EQUATIONS.replace("b[C] = 0", "b[C] = 0 first mean(x over N)"), {
        "first mean": "first -mean"}, [
        "`b` begins with another computed value (breaks nothing)"], False),
    "an input that is left out": (OPTIONAL, {"y[N, C] = 1": "y[N, C] = 2"}, [
        "the input `y`, left out, is 2 instead of 1"], True),
    "a choice that is gone": (CHOICE, {'"b"': '"c"'}, [
        "`mode` can no longer be `b`", "`mode` can be `c` (breaks nothing)"], True),
    "what another choice computes": (CHOICE, {"x * 2": "x * 3"}, [
        "in training with mode='b'"], True),
    "what a further method computes": (INVERTIBLE, {"y - b": "y + b"}, [
        "Mine.inverse: the result differs by up to"], True),
    "a pool that is cut in blocks": (OLD.replace("blocks(groups)", "blocks(2)"), {
        "blocks(2)": "blocks(3)"}, ["the result differs by up to"], True),
    "an axis that must be a multiple": (EQUATIONS, {
        "output x": "output (x - mean(x over C: blocks(4)))"}, [
        "the result differs by up to"], True),
    "another fixed length": ("norm Mine { input x[N, C = 3]\n reduce C }\n", {
        "C = 3": "C = 4"}, [
        "axis 2 of the input `x` has the length 4 instead of 3"], True),
    "a length that is no longer fixed": ("norm Mine { input x[N, C = 3]\n reduce C }\n", {
        "C = 3": "C"}, ["axis 2 of the input `x` may have other lengths (breaks nothing)"], False),
    "lengths that exclude each other": ("norm Mine { input x[N, C = 3]\n reduce C }\n", {
        "C = 3": "C = 4", "reduce C": "reduce C: blocks(2)"}, [
        "no lengths of axes fit both versions"], True),
    "the axes of the first output": (POOLED, {"let    y[N, C] = mean(x over T)": (
        "let    y[N, T] = mean(x over C)")}, [
        "returns `y` as [N, T] instead of [N, C]"], True),
    "one more axis of the first output": (POOLED, {"let    y[N, C] = mean(x over T)": (
        "let    y[N, C, T] = x - mean(x over T)")}, [
        "returns `y` as [N, C, T] instead of [N, C]"], True),
    "the order of axes of the first output": (POOLED, {"let    y[N, C]": "let    y[C, N]"}, [
        "returns the axes of `y` in another order"], True),
    "the order of axes of a further method": (POOLED, {"let    z[C, N]": "let    z[N, C]"}, [
        "returns the axes of `z` in another order"], True),
    "names of axes of the first output": (POOLED, {
        "x[N, C, T]": "x[M, D, L]", "let    y[N, C] = mean(x over T)": (
        "let    y[M, D] = mean(x over L)"), "y[N, C]) {": "y[M, D]) {",
        "z[C, N]": "z[D, M]"}, [], False),
    "an input that a call gives by name": (CALLING, {
        "Added(x, s)": "Added(s = s, a = x)"}, [], False),
    "an input of a called norm": (CALLING, {"h[N, C] = 0\n  output a + h": (
        "g[N, C] = 0\n  output a + g")}, [
        "the input `h` is gone", "the input `g` is new (breaks nothing)"], True),
    "a gradient that stops": (EQUATIONS, {"x * a + b": "stop(x) * a + b"}, [
        "the gradient of `x` differs by up to"], True),
}  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_told_and_nothing_else(name: str, folder: Path) -> None:
    old, edits, lines, breaks = CHANGES[name]
    new = old
    for before, after in edits.items():
        assert before in new
        new = new.replace(before, after)
    (folder / "old.norm").write_text(old)
    (folder / "new.norm").write_text(new)
    done = run("breaking", "new.norm", "--against", "old.norm")
    output = done.stdout.splitlines()[:-1]
    assert done.returncode == int(breaks), done.stdout + done.stderr
    for line in lines:
        assert any(line in output_line for output_line in output), output
    if not lines:
        assert output == []


def git(folder: Path, *arguments: str) -> None:
    me = ("-c", "user.name=me", "-c", "user.email=me@example.org")
    subprocess.run(["git", *me, *arguments], cwd=folder, check=True, capture_output=True)


def test_against_a_version_of_git(folder: Path) -> None:
    (folder / "specs" / "deep").mkdir(parents=True)
    used = EQUATIONS.replace("Mine", "Used")
    (folder / "used.norm").write_text(used)
    user = 'use "../../used.norm"\nnorm Mine { input x[N, C]\n output Used(x) }\n'
    (folder / "specs" / "deep" / "mine.norm").write_text(user)
    (folder / "specs" / "gone.norm").write_text(EQUATIONS.replace("Mine", "Gone"))
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    done = run("breaking", "specs", "--against", "git:main")
    assert done.returncode == 0
    assert done.stdout == "0 breaking and 0 other changes in 2 norms of git:main\n"
    (folder / "used.norm").write_text(used.replace("x * a + b", "x * a + b + 1"))
    (folder / "specs" / "gone.norm").unlink()
    (folder / "specs" / "new.norm").write_text(EQUATIONS.replace("Mine", "New"))
    done = run("breaking", "specs", "--against", "git:main", "--json")
    changes = json.loads(done.stdout)["changes"]
    assert done.returncode == 1
    assert {(change["norm"], change["kind"]) for change in changes} == {
        ("Gone", "norm"),
        ("Mine", "numbers"),
    }
    (folder / "specs" / "gone.norm").write_text("norm")
    assert run("breaking", "specs", "--against", "git:main").returncode == 1


def test_specs_that_git_leaves_out_of_archives_are_compared(folder: Path) -> None:
    (folder / "mine.norm").write_text(EQUATIONS)
    (folder / "naïve name.norm").write_text(EQUATIONS.replace("Mine", "Other"))
    (folder / ".gitattributes").write_text("*.norm export-ignore\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "first")
    (folder / "mine.norm").write_text(
        EQUATIONS.replace("param b[C] = 0", "param c[C] = 0").replace("+ b", "+ c")
    )
    staged = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True)
    done = run("breaking", ".", "--against", "git:HEAD")
    assert done.returncode == 1 and "in 2 norms of git:HEAD" in done.stdout
    after = subprocess.run(["git", "status", "--porcelain"], cwd=folder, capture_output=True)
    assert after.stdout == staged.stdout == b" M mine.norm\n"


def test_what_cannot_be_compared_is_said(folder: Path) -> None:
    (folder / "good.norm").write_text(EQUATIONS)
    (folder / "bad.norm").write_text(EQUATIONS.replace("* a", "* q"))
    done = run("breaking", "good.norm", "--against", "bad.norm")
    assert done.returncode == 1 and "cannot be compared (at bad.norm)" in done.stderr
    for against in ("git:", "git:--help", "git:nowhere"):
        done = run("breaking", "good.norm", "--against", against)
        assert done.returncode == 2, against
    git(folder, "init", "-q")
    done = run("breaking", "good.norm", "--against", "git:nowhere")
    assert done.returncode == 2 and "git: " in done.stderr
    (folder / "twice.norm").write_text(EQUATIONS)
    done = run("breaking", "good.norm", "twice.norm", "--against", "good.norm")
    assert done.returncode == 2 and "two norms `Mine`" in done.stderr


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_norm_that_is_run_computes_what_it_computes(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With every choice of its arguments, and all of its methods: no example fails to run."""
    from metanorm.breaking import numbers

    digests = map(str, count())
    monkeypatch.setattr(numbers, "fingerprint", lambda program: next(digests))
    assert not list(numbers.number_changes(PROGRAMS[name], PROGRAMS[name]))
    assert next(digests) != "0"


def test_the_library_breaks_nothing_of_itself() -> None:
    done = run("breaking", "specs/switch_norm.norm", "specs/ada_norm.norm", "--against", "specs",
               folder=Path(__file__).parents[1])  # fmt: skip
    assert done.stdout.count(" is gone") == done.stdout.count("\n") - 1
