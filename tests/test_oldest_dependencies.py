"""The lower bounds of what metanorm depends on: an installer may choose these, so they must do.

torch is left out: an older one is a download of its own for every platform, and nothing here needs
it. Its bound is what generated modules use (`docs/design-notes.md`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

pytestmark = pytest.mark.extended

SPEC = "norm A(eps = 1e-5) {\n  input  x[N, C = width]\n  reduce N\n  affine C\n  track  0.1\n}\n"
# With the code that each ends in.
COMMANDS = (
    ("check a.norm", 0),
    ("check a.norm --format json", 0),
    ("check a.norm --format sarif", 0),
    ("check --fromat json", 2),
    ("fmt --check a.norm", 0),
    ("compile a.norm -o out --target triton", 0),
    ("compile a.norm -o out --target triton --check", 0),
    ("list specs", 0),
    ("list operations --json", 0),
    ("explain a.norm", 0),
    ("explain GroupNorm --json", 0),
    ("explain MN0302", 0),
    ("inspect a.norm --stage sweeps", 0),
    ("new Mine", 0),
    ("version", 0),
    ("verify --help", 0),
    ("bench --help", 0),
    ("show --help", 0),
)


def oldest() -> list[str]:
    """`typer==0.20` for `typer>=0.20`, and so on; one of each dependency but torch."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pinned = []
    for requirement in project["dependencies"]:
        match = re.match(r"([\w-]+)>=([\d.]+)(;.*)?", requirement)
        assert match is not None, f"{requirement} has no lower bound"
        name, version, marker = match.groups()
        if name != "torch":
            pinned.append(f"{name}=={version}{marker or ''}")
    return pinned


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An interpreter with the oldest of everything, and no torch."""
    folder = tmp_path_factory.mktemp("oldest")
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    executable = str(folder / "bin" / "python")
    install = [
        executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        *oldest(),
    ]
    done = subprocess.run(install, capture_output=True, text=True)
    if "NewConnectionError" in done.stderr or "Temporary failure" in done.stderr:
        pytest.skip("there is no package index")
    assert done.returncode == 0, done.stderr
    return executable


def test_commands_that_need_no_torch(python: str, tmp_path: Path) -> None:
    (tmp_path / "a.norm").write_text(SPEC)
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(ROOT)}
    for command, code in COMMANDS:
        done = subprocess.run(
            [python, "-m", "metanorm", *command.split()],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, (command, done.stdout[-300:], done.stderr[-600:])
        assert "internal error" not in done.stderr and "Warning" not in done.stderr, command
