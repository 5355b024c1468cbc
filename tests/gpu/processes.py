"""Tests in processes of their own: triton is imported with or without its interpreter, once and
for all, so that a process has either."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

Part = tuple[str, str, int, int]  # files, their tier, which part of their tests, and of how many


def parts(files: Mapping[str, int], tier: str) -> Iterator[pytest.ParameterSet]:
    """The parts into which the tests of files are cut, so that processes share the work."""
    marks = (pytest.mark.extended,) if tier == "extended" else ()
    for file, count in files.items():
        for part in range(count):
            named = f"{file.replace('.py', '')} {tier} {part + 1} of {count}"
            yield pytest.param((file, tier, part, count), marks=marks, id=named)


def passes(part: Part, folder: Path, environment: Mapping[str, str]) -> None:
    """Run one part, and fail as it does. Every part has tests that run."""
    files, tier, number, count = part
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [str(folder / file) for file in files.split()]
    command += ["-m", "extended" if tier == "extended" else "not extended"]
    command += [f"--part={number}/{count}"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout


def without(*names: str, **added: str) -> dict[str, str]:
    """The environment of this process but for some variables, and with others."""
    return {**{k: v for k, v in os.environ.items() if k not in names}, **added}
