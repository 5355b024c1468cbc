"""Launches as a GPU would have them, without one: the tests in `recorded/`, in processes of their
own, since triton is imported with or without its interpreter once and for all.

`METANORM_PTX=all` asks for every norm of the library; `METANORM_PTX_REPORT` names a file for the
registers and the stack of each kernel.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent / "recorded"

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)


@pytest.mark.parametrize(
    "files", [["norms.py"], ["launching.py"], ["waiting.py", "failing.py", "tuned.py"]], ids=str
)
def test_on_a_recorded_gpu(files: list[str]) -> None:
    paths = (ROOT, ROOT / "tests" / "native")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    for name in ("TRITON_INTERPRET", "METANORM_AUTOTUNE", "METANORM_TRITON_TILE"):
        environment.pop(name, None)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider"]
    command += [str(HERE / file) for file in files]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
