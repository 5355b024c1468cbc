"""The script that compares what is printed notices what is new, gone or other."""

from __future__ import annotations

import hashlib
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
    # For each target a module and one for processes; C for two of them, and Triton.
    assert len(digests) == 9


def test_differences_are_named(tmp_path: Path) -> None:
    before = {"a.c": "1", "b.c": "2", "c.c": "3"}
    assert printed.differences(before, dict(before)) == []
    after = {"a.c": "1", "b.c": "9", "d.c": "4"}
    assert printed.differences(before, after) == ["gone   c.c", "new    d.c", "other  b.c"]
