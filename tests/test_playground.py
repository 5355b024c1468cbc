"""What the page of the playground asks, under a Python that has only what the browser has.

`make playground-test` opens the page itself in a browser.
"""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from commands import in_this
from conftest import LIBRARY, ROOT

from metanorm.targets.header import HEADER
from metanorm.version import __version__

sys.path.insert(0, str(ROOT))

from docs.playground import answers, compile_archive
from docs.playground.pack import packed, write_archive, write_specs

# Pyodide's Python is newer than the oldest of the compiler, which needs `typing_extensions`.
pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="the browser's Python is newer")

# Reads requests, a line of JSON each, and prints answers. There is no other package than lark.
SERVE = """
import json, sys
sys.path[:0] = [sys.argv[1]]
from answers import answer
for line in sys.stdin:
    print(answer(*json.loads(line)), flush=True)
foreign = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names)
print(json.dumps(sorted(foreign)))
"""


def ask(archive: Path, questions: list[tuple[str, str, str]]) -> list[Any]:
    """The answers of an isolated interpreter with nothing but the archive, and its packages."""
    lines = "".join(json.dumps(question) + "\n" for question in questions)
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", SERVE, str(archive)],
        input=lines,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the browser unpacks: bytecode alone."""
    folder = tmp_path_factory.mktemp("playground")
    write_archive(folder / "sources.zip")
    (folder / "compiler.zip").write_bytes(
        compile_archive.compiled((folder / "sources.zip").read_bytes())
    )
    with zipfile.ZipFile(folder / "compiler.zip") as compiler:
        compiler.extractall(folder / "compiler")
    return folder / "compiler"


def texts() -> dict[str, str]:
    return {name.partition(":")[2]: LIBRARY.sources[name].text for name in LIBRARY.roots}


def rest(text: str | None) -> str | None:
    """A generated file behind its header, which names the file of the spec."""
    header = text and HEADER.match(text)
    return text[header.end() :] if text and header else None


def test_specs_of_the_library_have_the_bytes_of_the_command_line(
    archive: Path, library_files: Mapping[str, str]
) -> None:
    specs = texts()
    kinds = ("module", "kernels", "pools", "equations", "explanation", "check")
    replies = ask(archive, [(kind, name, text) for name, text in specs.items() for kind in kinds])
    *answers_in_order, foreign = replies
    assert set(foreign) <= {"__main__", "__mp_main__", "answers", "lark", "metanorm"}
    pairs = [(name, kind) for name in specs for kind in kinds]
    for (name, kind), answer in zip(pairs, answers_in_order, strict=True):
        stem = name.removesuffix(".norm")
        if kind == "module":  # the corpus holds the command line to the same file
            assert answer == (ROOT / f"tests/good/specs/{stem}.py").read_text("utf-8"), name
        elif kind == "kernels":
            assert rest(answer) == rest(library_files.get(f"{stem}.c")), name
        elif kind == "check":
            assert answer["errors"] == 0 and not answer["report"], name
        elif kind == "explanation":
            assert "\nIn equations\n" in answer, name
        else:
            assert answer, (name, kind)
            assert all(norm.get("svg") or norm.get("latex") for norm in answer), (name, kind)


def test_a_file_is_the_one_that_the_command_line_writes(tmp_path: Path) -> None:
    spec = ROOT / "specs/group_norm.norm"
    assert in_this("compile", str(spec), "-o", str(tmp_path)).returncode == 0
    for kind, ending in (("module", "py"), ("kernels", "c")):
        answer = json.loads(answers.answer(kind, spec.name, spec.read_text("utf-8")))
        assert answer == (tmp_path / f"group_norm.{ending}").read_text("utf-8")


def test_explanations_are_those_of_the_command_line() -> None:
    for name in ("layer_norm", "centralization"):  # the second one has two norms
        explained = answers.answer("explanation", f"{name}.norm", texts()[f"{name}.norm"])
        printed = in_this("explain", str(ROOT / f"specs/{name}.norm"))
        assert json.loads(explained) == printed.stdout


def test_pictures_are_those_of_the_gallery() -> None:
    for name in ("group_norm", "graph_norm"):
        (drawn,) = answers.pools(f"{name}.norm", texts()[f"{name}.norm"])  # type: ignore[misc]
        assert drawn["svg"] == (ROOT / f"docs/gallery/{name}.svg").read_text(encoding="utf-8")


def test_mistakes_are_told_as_the_command_line_does() -> None:
    text = "norm A {\n  input  x[N, C]\n  output maen(x over C)\n}\n"
    reply = json.loads(answers.answer("check", "a.norm", text))
    assert reply["errors"] == 1 and reply["diagnostics"][0]["primary"]["path"] == "a.norm"
    assert reply["diagnostics"][0]["fixes"] and reply["diagnostics"][0]["code"] in reply["report"]
    for kind in ("module", "kernels"):
        assert json.loads(answers.answer(kind, "a.norm", text)) is None
    assert json.loads(answers.answer("pools", "a.norm", text)) == []


def test_what_cannot_be_drawn_says_why() -> None:
    text = "norm A {\n  input  x[N, C]\n  output x - mean(x over C: blocks(9000))\n}\n"
    (drawn,) = json.loads(answers.answer("pools", "a.norm", text))
    assert not drawn["svg"] and "9000 positions" in drawn["reason"]


@pytest.mark.parametrize("text", ["", "\ud800", "\0", "norm " * 5000, "(" * 5000, "\ufeffnorm A {"])
def test_whatever_is_typed_is_answered(text: str) -> None:
    for kind in answers.ANSWERS:
        json.loads(answers.answer(kind, "a.norm", text, *((0,) if kind == "completions" else ())))


def test_texts_are_formatted_and_completed() -> None:
    text = "norm A {\ninput x[N, C]\n  output x - mea\n}\n"
    offered = json.loads(answers.answer("completions", "a.norm", text, text.index("mea") + 3))
    assert "mean" in {item["text"].strip("(") for item in offered}
    tidy = json.loads(answers.answer("formatted", "a.norm", text))
    assert tidy == "norm A {\n  input  x[N, C]\n  output x - mea\n}\n"


def test_a_spec_may_use_the_library() -> None:
    call = "GroupNorm(x, num_groups = 2)"
    text = f'use "group_norm.norm"\nnorm A {{\n  input x[N, C, *S]\n  output {call}\n}}\n'
    reply = json.loads(answers.answer("check", "a.norm", text))
    assert reply["errors"] == 0, reply["report"]


def test_the_archive_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("one.zip", "two.zip"):
        write_archive(tmp_path / name)
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    names = [name for name, _ in packed()]
    assert len(names) == len(set(names)) and "metanorm/driver.py" in names


def test_the_menu_has_all_specs(tmp_path: Path) -> None:
    write_specs(tmp_path / "specs.json")
    assert json.loads((tmp_path / "specs.json").read_text(encoding="utf-8")) == texts()


def test_the_packages_are_of_this_version_and_locked() -> None:
    folder = ROOT / "docs/playground"
    package, lock = (
        json.loads((folder / name).read_text()) for name in ("package.json", "package-lock.json")
    )
    assert package["version"] == __version__
    assert lock["packages"][""]["devDependencies"] == package["devDependencies"]
    assert all("resolved" not in entry for entry in lock["packages"].values())
