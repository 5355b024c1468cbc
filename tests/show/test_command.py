"""`metanorm show`: what it writes, and what it says where it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from subprocess import CompletedProcess
from xml.etree import ElementTree

import pytest
from commands import TERMINAL, ended, in_this
from conftest import ROOT

SPECS = ROOT / "specs"
WITHOUT = "import sys; sys.modules[{module!r}] = None; from metanorm.cli import main; main()"


def run(*arguments: str, stdin: str = "") -> CompletedProcess[str]:
    return in_this("show", *arguments, stdin=stdin)


def run_without(module: str, *arguments: str) -> CompletedProcess[str]:
    """In a process that does not find a module."""
    command = [sys.executable, "-c", WITHOUT.format(module=module), "show", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **TERMINAL})
    return ended(command, done.returncode, done.stdout, done.stderr)


def test_it_writes_an_svg_and_prints_the_same(tmp_path: Path) -> None:
    file = tmp_path / "new" / "group_norm.svg"
    done = run(str(SPECS / "group_norm.norm"), "-o", str(file))
    assert done.returncode == 0 and done.stderr == f"{file}: written\n"
    assert ElementTree.fromstring(file.read_text()).tag.endswith("svg")
    assert run(str(SPECS / "group_norm.norm")).stdout == file.read_text()
    assert [path.name for path in file.parent.iterdir()] == ["group_norm.svg"]


def test_it_writes_a_png_over_what_is_there(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    file = tmp_path / "picture.PNG"
    file.write_text("something else")
    assert run(str(SPECS / "graph_norm.norm"), "-o", str(file)).returncode == 0
    assert file.read_bytes().startswith(b"\x89PNG")


def test_it_reads_standard_input() -> None:
    spec = "norm Centred {\n  input  x[N, C]\n  output x - mean(x over C)\n}\n"
    assert "<title>Centred: mean over C</title>" in run("-", stdin=spec).stdout


def test_one_norm_of_several() -> None:
    spec = str(SPECS / "united_norm.norm")
    done = run(spec)
    assert done.returncode == 2 and not done.stdout
    assert "has 6 norms: NodeNorm, GraphwiseNorm" in done.stderr and "--norm" in done.stderr
    assert "<title>NodeNorm: " in run(spec, "--norm", "NodeNorm").stdout
    wrong = run(spec, "--norm", "NodNorm")
    assert wrong.returncode == 2 and "did you mean `NodeNorm`?" in wrong.stderr


@pytest.mark.parametrize("name", ["picture.jpg", "picture", ".svg", "x.svg.gz"])
def test_other_endings(tmp_path: Path, name: str) -> None:
    done = run(str(SPECS / "group_norm.norm"), "-o", str(tmp_path / name))
    assert done.returncode == 2 and "it must end in .svg or .png" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "folder.svg").mkdir()
    (tmp_path / "file").write_text("")
    for output in ("folder.svg", "file/x.svg"):
        done = run(str(SPECS / "group_norm.norm"), "-o", str(tmp_path / output))
        assert done.returncode == 2 and f"cannot write `{tmp_path / output}`" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder.svg"]


def test_specs_with_errors(tmp_path: Path) -> None:
    file = tmp_path / "x.svg"
    bad = run("-", "-o", str(file), stdin="norm A {\n  input  x[N]\n  output y\n}\n")
    assert bad.returncode == 1 and "MN0201" in bad.stderr and not file.exists()
    missing = run(str(tmp_path / "none.norm"), "-o", str(file))
    assert missing.returncode == 1 and "there is no such file" in missing.stderr
    empty = run("-", stdin="")
    assert empty.returncode == 1 and "error" in empty.stderr


def test_what_is_too_large_to_draw() -> None:
    spec = "norm A {\n  input  x[N, C]\n  output x - mean(x over C: blocks(9000))\n}\n"
    done = run("-", stdin=spec)
    assert done.returncode == 1 and "there is no small example of A to draw" in done.stderr


def test_a_png_without_matplotlib(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    done = run_without("matplotlib", str(SPECS / "group_norm.norm"), "-o", str(file))
    assert done.returncode == 2 and "pip install 'metanorm[demo]'" in done.stderr
    assert not file.exists()
    assert run_without("matplotlib", str(SPECS / "group_norm.norm")).returncode == 0


@pytest.mark.parametrize("name", ["group_norm", "graph_norm", "mode_norm"])
def test_without_torch(name: str) -> None:
    done = run_without("torch", str(SPECS / f"{name}.norm"))
    assert done.returncode == 0
    assert done.stdout == (ROOT / f"docs/gallery/{name}.svg").read_text(encoding="utf-8")
