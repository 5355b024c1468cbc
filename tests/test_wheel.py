"""The wheel: what is in it, and that it works without the sources."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT

from metanorm.version import __version__ as VERSION


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the working tree."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--quiet", "-w", str(folder)]
    if find_spec("hatchling") and find_spec("hatch_fancy_pypi_readme"):
        command.append("--no-build-isolation")
    done = subprocess.run([*command, str(ROOT)], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def names(wheel: Path) -> list[str]:
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


@pytest.fixture(scope="module")
def unpacked(wheel: Path) -> Iterator[Path]:
    folder = wheel.parent / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    yield folder


def run(unpacked: Path, *command: str) -> str:
    """What a Python that has the unpacked wheel before everything else prints."""
    elsewhere = unpacked.parent / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, *command],
        cwd=elsewhere,
        env={**os.environ, "PYTHONPATH": str(unpacked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_its_name_is_that_of_a_pure_wheel(wheel: Path) -> None:
    assert wheel.name == f"metanorm-{VERSION}-py3-none-any.whl"


def test_every_module_is_inside(names: list[str]) -> None:
    for path in (ROOT / "metanorm").rglob("*.py"):
        assert path.relative_to(ROOT).as_posix() in names


def test_what_modules_read_is_inside(names: list[str]) -> None:
    for folder in ("grammar", "specs"):
        for path in (ROOT / folder).iterdir():
            assert f"metanorm/{folder}/{path.name}" in names
    assert "metanorm/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_nothing_else_is_inside(names: list[str]) -> None:
    info = f"metanorm-{VERSION}.dist-info/"
    assert not [n for n in names if not n.startswith(("metanorm/", info))]
    endings = {Path(n).suffix for n in names if n.startswith("metanorm/")}
    assert endings <= {".py", ".c", ".h", ".typed", ".norm", ".lark", ".json", ".md"}
    assert not [n for n in names if {"tests", "docs", "__pycache__"} & {*Path(n).parts}]


def metadata(unpacked: Path) -> Message:
    return BytesParser().parsebytes(
        (unpacked / f"metanorm-{VERSION}.dist-info" / "METADATA").read_bytes()
    )


def test_torch_is_an_extra(unpacked: Path) -> None:
    needed = metadata(unpacked).get_all("Requires-Dist") or []
    assert [n for n in needed if n.startswith("torch") and "extra ==" not in n] == []
    assert [n for n in needed if n.startswith("torch>") and "extra == 'torch'" in n] != []
    names = {n.split(">")[0] for n in needed if "extra ==" not in n}
    assert names == {"lark", "pydantic", "pygments", "rich", "tomli", "typer"}


def test_links_of_the_readme_live_on_the_index(unpacked: Path) -> None:
    text = str(metadata(unpacked).get_payload())
    links = re.findall(r"\]\(([^)]+)\)", text)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    version = f"https://github.com/metanorm/metanorm/blob/v{VERSION}/"
    assert f"{version}docs/tutorial.md" in links
    assert not re.search(r"^```\w+ ", text, re.MULTILINE)


def test_the_command_is_declared(unpacked: Path) -> None:
    points = configparser.ConfigParser()
    points.read(unpacked / f"metanorm-{VERSION}.dist-info" / "entry_points.txt")
    assert dict(points["console_scripts"]) == {"metanorm": "metanorm.__main__:main"}


def test_it_is_the_unpacked_one_that_runs(unpacked: Path) -> None:
    where = run(unpacked, "-c", "import metanorm; print(metanorm.__file__)").strip()
    assert Path(where).is_relative_to(unpacked)


def test_it_knows_its_version(unpacked: Path) -> None:
    assert VERSION in run(unpacked, "-m", "metanorm", "version")


@pytest.mark.needs_torch
def test_it_checks_and_compiles_a_spec_that_uses_the_library(unpacked: Path) -> None:
    spec = unpacked.parent / "mine.norm"
    spec.write_text(
        'use "group_norm.norm"\n\n'
        "norm Mine(eps = 1e-5) {\n"
        "  input  x[N, C, *S]\n"
        "  output GroupNorm(x, num_groups = 2, eps = eps)\n"
        "}\n"
    )
    run(unpacked, "-m", "metanorm", "check", str(spec))
    run(unpacked, "-m", "metanorm", "compile", str(spec), "-o", str(unpacked.parent / "norms"))
    process = run(
        unpacked,
        "-c",
        f"import sys; sys.path.insert(0, {str(unpacked.parent)!r})\n"
        "import torch\nfrom norms import Mine\n"
        "x = torch.randn(3, 4, 5)\n"
        "wanted = torch.nn.functional.group_norm(x, 2)\n"
        "print(torch.allclose(Mine(4)(x), wanted, atol=1e-6))",
    )
    assert process.strip() == "True"


def test_it_lists_the_library(unpacked: Path) -> None:
    listed = run(unpacked, "-m", "metanorm", "list", "specs")
    head, *rows = listed.splitlines()
    assert head.startswith("name ") and {row.split()[0] for row in rows} == {*PROGRAMS}
