"""The script that compares what is printed notices what is new, gone or other."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import printed
from conftest import ROOT


def test_every_spec_of_the_library_has_its_digests() -> None:
    files = printed.spec_files()
    assert {*(ROOT / "specs").glob("*.norm")} <= {*files}
    rms = ROOT / "specs" / "rms_norm.norm"
    digests = dict(printed.digests([rms]))
    assert {entry.partition(":")[0] for entry in digests} == {"torch", "native", "triton"}
    kernels = printed.printed(rms, "native")["rms_norm.c"]
    digest = hashlib.sha256(kernels.encode()).hexdigest()
    assert digests["native: specs/rms_norm.norm: rms_norm.c"] == digest
    # For each target a module and one for processes; C for each of these in two of them; Triton.
    assert len(digests) == 11


def test_modules_import_and_keep_nothing_that_they_do_not_read(tmp_path: Path) -> None:
    """The modules for processes too, some of which have no function, or functions of sweeps."""
    for spec in ("batch_norm", "bit_linear", "ibn_norm", "packed_norm", "power_norm"):
        for name, text in printed.printed(ROOT / "specs" / f"{spec}.norm", "native").items():
            if name.endswith(".py"):
                (tmp_path / name).write_text(text)
    command = ("ruff", "check", "--isolated", "--preview", "--select", "F,RUF059", str(tmp_path))
    done = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_differences_are_named(tmp_path: Path) -> None:
    before = {"a.c": "1", "b.c": "2", "c.c": "3"}
    assert printed.differences(before, dict(before)) == []
    after = {"a.c": "1", "b.c": "9", "d.c": "4"}
    assert printed.differences(before, after) == ["gone   c.c", "new    d.c", "other  b.c"]
