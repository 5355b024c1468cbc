"""`make test-pythons`: the compiler under each Python from 3.10 on that the machine has.

In an environment of its own, with what the compiler needs and without torch, each compiles the
library for all targets, byte for byte as the first one does, and runs the tests that need no torch.
With `PART=0/3` the oldest runs every second, since what one of them lacks the oldest lacks, and the
others run every third. Interpreters are found on PATH, and among the versions of pyenv.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "pythons"
OLDEST, NEWEST = 10, 14  # minor versions that are supported, as the classifiers say
FEWEST = 500  # tests that need no torch; a run that skips them all would show nothing
TARGETS = ("torch", "native", "triton")
TOOLS = (
    "pytest", "pytest-xdist", "hypothesis", "pyyaml", "ruff",
    "lsprotocol", "pygls", "pytest-asyncio", "pytest-lsp",
)  # fmt: skip


def candidates() -> list[Path]:
    """Everything that is called like an interpreter, this one first."""
    names = [f"python3.{minor}" for minor in range(OLDEST, NEWEST + 1)]
    paths = [Path(sys.executable)]
    for folder in os.get_exec_path():
        paths += [Path(folder, name) for name in names]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return [*paths, *sorted(pyenv.glob("versions/*/bin/python3"))]


def interpreters() -> dict[int, Path]:
    """One interpreter for each minor version that there is; what does not start is none."""
    by_minor: dict[int, Path] = {}
    for path in candidates():
        if not os.access(path, os.X_OK):
            continue
        ask = [str(path), "-c", "import sys, venv; print(*sys.version_info[:2])"]
        done = subprocess.run(ask, capture_output=True, text=True)
        major, _, minor = done.stdout.strip().partition(" ")
        if done.returncode == 0 and major == "3" and OLDEST <= int(minor) <= NEWEST:
            by_minor.setdefault(int(minor), path)
    return dict(sorted(by_minor.items()))


def dependencies() -> list[str]:
    """What the compiler needs, without torch."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    block = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.DOTALL | re.MULTILINE)
    assert block, "pyproject.toml has a list of dependencies"
    listed = re.findall(r'^\s*"(.*?)",', block[1], re.MULTILINE)
    return [requirement for requirement in listed if not requirement.startswith("torch")]


def environment(minor: int, interpreter: Path) -> Path:
    """The interpreter of an environment with what the tests need, made anew where that changed."""
    folder = BUILD / f"3.{minor}"
    wanted = "\n".join([str(interpreter), *dependencies(), *TOOLS])
    ready = folder / "ready"
    if not ready.exists() or ready.read_text() != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([str(interpreter), "-m", "venv", str(folder)], check=True)
        python = str(folder / "bin" / "python")
        pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        pinned = ["-c", str(ROOT / ".ci" / "constraints.txt")]
        subprocess.run([*pip, *pinned, *dependencies(), *TOOLS], check=True)
        ready.write_text(wanted)
    return folder / "bin" / "python"


def compiled(python: Path, folder: Path) -> dict[str, bytes]:
    """The library as this interpreter compiles it, for all targets."""
    shutil.rmtree(folder, ignore_errors=True)

    def compile_library(target: str) -> None:
        out = str(folder / target)
        command = [str(python), "-m", "metanorm", "compile", "specs", "-o", out]
        command += ["--target", target]
        subprocess.run(command, cwd=ROOT, check=True, stderr=subprocess.DEVNULL)

    with ThreadPoolExecutor() as pool:
        list(pool.map(compile_library, TARGETS))
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def run_tests(python: Path, part: str) -> int:
    """Run the tests that need no torch, all or a part such as "0/3"; how many passed."""
    command = [
        *(str(python), "-m", "pytest", "-n", "2"),
        *("-p", "without_torch", "-p", "no:cacheprovider"),
        *(("--part", part) if part else ()),
    ]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or passed is None:
        sys.exit(f"{done.stdout[-6000:]}\nthe tests fail under {python}")
    return int(passed[1])


def half_of(part: str) -> str:
    """One of two parts, for one of several such as "2/3"; all for all."""
    return f"{int(part.partition('/')[0]) % 2}/2" if part else ""


def main(part: str = "") -> None:
    """Check every interpreter; ends with 1 at the first that differs or fails."""
    by_minor = interpreters()
    expected: dict[str, bytes] = {}
    for minor, interpreter in by_minor.items():
        python = environment(minor, interpreter)
        files = compiled(python, BUILD / f"norms-3.{minor}")
        expected = expected or files
        different = sorted(n for n in expected | files if expected.get(n) != files.get(n))
        if different:
            sys.exit(f"Python 3.{minor} compiles something else: {', '.join(different[:5])}")
        its_part = part if minor > min(by_minor) else half_of(part)
        passed = run_tests(python, its_part)
        fewest = FEWEST // int(its_part.partition("/")[2] or 1)
        if passed < fewest:
            sys.exit(f"Python 3.{minor} ran {passed} tests: {fewest} or more need no torch")
        print(f"Python 3.{minor}: {len(files)} files are the same, {passed} tests pass", flush=True)
    missing = [f"3.{n}" for n in range(OLDEST, NEWEST + 1) if n not in by_minor]
    if missing:
        print(f"not on this machine: {', '.join(missing)}")


if __name__ == "__main__":
    main(*sys.argv[1:])
