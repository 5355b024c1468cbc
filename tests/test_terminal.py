"""Nothing that a spec or the name of a file holds reaches a terminal, or breaks what is printed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from xml.etree import ElementTree

import pytest
from commands import in_a_child, in_this
from hostile import CONTROLS, MARKUP, SPEC, WRONG, obeyed

from metanorm.diagnostics.render.formats import RENDERERS
from metanorm.driver import compile_specs
from metanorm.frontend import check
from metanorm.options import Options
from metanorm.show.shapes import Drawing, Words
from metanorm.show.svg_from_drawing import svg_from_drawing
from metanorm.source import Source
from metanorm.stages import STAGES, stage_text
from metanorm.targets.live import module_from_files
from metanorm.visible import encodable, printable, visible, visible_lines

RIGHT = {"a.norm": Source.of("a.norm", SPEC)}
BYTES = os.fsdecode(b"no\xffname.norm")


def run(folder: Path, *arguments: str, code: int = 0, stdin: str = "") -> tuple[str, str]:
    done = in_this(*arguments, stdin=stdin, folder=folder)
    assert done.returncode == code, (done.stdout, done.stderr)
    return done.stdout, done.stderr


# ---- what all commands share


def test_what_is_shown_has_nothing_to_obey() -> None:
    assert obeyed(CONTROLS) and not obeyed(visible(CONTROLS)) and not obeyed(printable(CONTROLS))
    assert visible_lines("a\n\tb\r") == "a\n b\ufffd" and visible("a\nb") == "a\ufffdb"
    for text in ("ünï 文字 e\u0301 🙂", MARKUP):
        assert visible(text) == printable(text) == encodable(text) == text


def test_bytes_that_are_no_unicode_are_written_out() -> None:
    assert encodable(BYTES) == r"no\xffname.norm"
    assert encodable("\ud800") == r"\ud800"


# ---- each renderer, in this process


@pytest.mark.parametrize("form", RENDERERS)
def test_reports(form: str) -> None:
    name = f"{CONTROLS}{BYTES}"
    sources = {name: Source.of(name, WRONG)}
    diagnostics = check(sources, [name]).diagnostics
    assert diagnostics
    text = RENDERERS[form](diagnostics, sources)
    assert not obeyed(text)
    text.encode()
    if form in ("json", "sarif"):
        json.loads(text)
    if form == "sarif":
        assert "%FF" in text  # what an address has for such a byte


@pytest.mark.parametrize("target", ["torch", "native", "triton"])
def test_generated_files(target: str) -> None:
    files = compile_specs(RIGHT, ["a.norm"], Options(target=target)).files  # type: ignore[arg-type]
    assert not any(obeyed(text) for text in files.values())
    assert module_from_files(files, "a").A.__doc__


@pytest.mark.parametrize("stage", STAGES)
def test_stages(stage: str) -> None:
    text, _ = stage_text(RIGHT, "a.norm", stage)
    assert not obeyed(visible_lines(text))


def test_pictures() -> None:
    words = Words(0, 0, CONTROLS + MARKUP + "</svg>")
    svg = svg_from_drawing(Drawing(10, 10, (words,), CONTROLS))
    assert not obeyed(svg)
    ElementTree.fromstring(svg)


# ---- the commands themselves


def test_commands_on_a_hostile_comment(tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(SPEC)
    said = [
        run(tmp_path, "explain", "a.norm"),
        run(tmp_path, "explain", "a.norm", "--json"),
        run(tmp_path, "inspect", "a.norm", "--stage", "equations"),
        run(tmp_path, "inspect", "a.norm", "--stage", "ast", "--json"),
        run(tmp_path, "compile", "a.norm", "--stdout"),
        run(tmp_path, "fmt", "--diff", "a.norm", code=1),
    ]
    assert not [s for s in said if obeyed("".join(s))]
    assert MARKUP in said[0][0]  # and rich makes nothing of it
    formatted, _ = run(tmp_path, "fmt", "-", stdin=SPEC)
    assert CONTROLS in formatted  # a file that goes through stays what it is


def test_commands_on_a_hostile_name(tmp_path: Path) -> None:
    """A name that is no UTF-8, holds controls and markup, or looks like an option."""
    name = f"[red]\x1b[31m\u202e{BYTES}"
    (tmp_path / name).write_text(WRONG)
    out, err = run(tmp_path, "check", ".", code=1)
    assert not obeyed(out + err) and "[red]" in out
    out, err = run(tmp_path, "check", name, "--format", "json", code=1)
    assert json.loads(out)["diagnostics"][0]["primary"]["path"].endswith(r"no\xffname.norm")
    for command in ("fmt", "compile", "verify", "explain", "show"):
        for arguments in ((name,), ("missing" + name,)):
            codes = (0, 1, 2) if command == "fmt" else (1, 2)
            done = in_this(command, *arguments, folder=tmp_path)
            said = done.stdout + done.stderr
            assert done.returncode in codes and not obeyed(said), said


def test_wrong_arguments_are_not_obeyed(tmp_path: Path) -> None:
    for arguments in (("explain", "a", CONTROLS), (CONTROLS,), ("check", f"--{CONTROLS}")):
        out, err = run(tmp_path, *arguments, code=2)
        assert err and not obeyed(out + err)


def test_an_output_that_knows_ascii_alone(tmp_path: Path) -> None:
    done = in_a_child("check", "-", stdin=WRONG, PYTHONIOENCODING="ascii:strict")
    assert done.returncode == 1 and "MN0201" in done.stdout and not done.stderr
