"""`make test-scatter`: norms of graphs whose sums are taken by torch-scatter.

In an environment of its own, which sees the packages of this one and has torch-scatter beside them.
That is compiled from source, in four minutes of a processor and more on older ones; the wheel is
kept in build/scatter, one for each version of Python, torch and torch-scatter.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "scatter"
CONSTRAINTS = ROOT / ".ci" / "constraints.txt"
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check")
FEWEST = 30  # tests that need torch-scatter; a run that skips them would show nothing
NEEDING = ("tests/runtime/test_segments.py",)
# What runs on either, and is here run with sums by torch-scatter wherever labels are sorted.
ON_BOTH = (
    "tests/runtime/test_runtime_groups.py",
    "tests/runtime/test_runtime_neighbours.py",
    "tests/test_bench_by_hand.py",
)


def version() -> str:
    """The version of torch-scatter that is pinned."""
    pinned = re.search(r"^torch-scatter==(\S+)", CONSTRAINTS.read_text(encoding="utf-8"), re.M)
    assert pinned, "torch-scatter is pinned in .ci/constraints.txt"
    return pinned[1]


def wheel(number: str) -> Path:
    """The wheel for this Python and this torch, compiled where there is none."""
    python, torch = sysconfig.get_python_version(), metadata.version("torch")
    folder = BUILD / f"python-{python}-torch-{torch}-scatter-{number}"
    if not any(folder.glob("*.whl")):
        print(f"compiling torch-scatter {number} for torch {torch}: minutes", flush=True)
        begun = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(begun, ignore_errors=True)
        command = [*PIP, "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
        command += ["--wheel-dir", str(begun), f"torch-scatter=={number}"]
        jobs = {"MAX_JOBS": os.environ.get("MAX_JOBS", str(os.cpu_count() or 1))}
        subprocess.run(command, env={**os.environ, **jobs}, check=True)
        begun.replace(folder)  # a build that was cut off is none
    (wheel,) = folder.glob("*.whl")
    return wheel


def environment(built: Path) -> Path:
    """The interpreter of an environment with the wheel and all packages of this one."""
    folder = BUILD / "environment"
    ready, wanted = folder / "ready", f"{sys.executable}\n{built}"
    python = folder / "bin" / "python"
    if not ready.exists() or ready.read_text(encoding="utf-8") != wanted:
        shutil.rmtree(folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
        (packages,) = folder.glob("lib/python*/site-packages")
        others = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
        (packages / "packages.pth").write_text(others, encoding="utf-8")
        install = ["install", "--quiet", "--no-deps", "--no-index", str(built)]
        subprocess.run([*PIP, "--python", str(python), *install], check=True)
        ready.write_text(wanted, encoding="utf-8")
    return python


def run_tests(python: Path, *arguments: str) -> int:
    """Run tests; how many passed. None may be skipped."""
    command = [str(python), "-m", "pytest", "-n", "2", "-p", "no:cacheprovider", *arguments]
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        text=True,
    )
    passed = re.search(r"(\d+) passed", done.stdout)
    if done.returncode or passed is None or " skipped" in done.stdout:
        sys.exit(f"{done.stdout[-6000:]}\nthe tests fail with torch-scatter, or skip some")
    return int(passed[1])


def main() -> None:
    """Build, and run the tests; ends with 1 where one fails."""
    python = environment(wheel(version()))
    needing = run_tests(python, *NEEDING)
    if needing < FEWEST:
        sys.exit(f"{needing} tests ran: {FEWEST} or more need torch-scatter")
    both = run_tests(python, "-p", "with_torch_scatter", *ON_BOTH)
    print(f"torch-scatter {version()}: {needing} tests of it pass, and {both} that run on both")


if __name__ == "__main__":
    main()
