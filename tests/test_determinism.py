"""The same specs give the same programs, whatever came before and however Python hashes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LIBRARY, PROGRAMS, ROOT

from metanorm.frontend import check
from metanorm.ir.dump import program_text
from metanorm.ir.fingerprint import fingerprint
from metanorm.passes.pipeline import optimize, stages
from metanorm.stages import STAGES, stage_text
from metanorm.workspace import load

CORPUS = [
    path.relative_to(ROOT).as_posix()
    for folder in ("specs", "tests/good/features", "tests/good/language")
    for path in sorted((ROOT / folder).glob("*.norm"))
]
DIGEST = """
import hashlib, sys
from metanorm.ir.fingerprint import fingerprint
from metanorm.frontend import check
from metanorm.ir.dump import program_text
from metanorm.passes.pipeline import optimize, stages
from metanorm.workspace import load

for path in sys.argv[1:]:
    specs = load([path])
    for norm in check(specs.sources, specs.roots).norms[specs.roots[0]]:
        texts = [program_text(norm.program)]
        texts += [program_text(program) for _, program in stages(norm.program)]
        texts.append(fingerprint(optimize(norm.program)))
        print(norm.program.name, hashlib.sha256("".join(texts).encode()).hexdigest())
"""


def digests(seed: str, paths: list[str]) -> list[str]:
    """A line for each norm: all its programs, as a process with this hash seed makes them."""
    done = subprocess.run(
        [sys.executable, "-c", DIGEST, *paths],
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": seed},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_neither_hash_seeds_nor_what_was_compiled_before_matter() -> None:
    first, other = digests("0", CORPUS), digests("4242", CORPUS[::-1])
    assert len(first) > len(CORPUS)
    assert first != other, "the order itself shows"
    assert sorted(first) == sorted(other)


@pytest.mark.parametrize("name", PROGRAMS)
def test_passes_keep_nothing_between_runs(name: str) -> None:
    runs = [[program_text(p) for _, p in stages(PROGRAMS[name])] for _ in range(2)]
    assert runs[0] == runs[1]
    assert fingerprint(optimize(PROGRAMS[name])) == fingerprint(optimize(PROGRAMS[name]))


def test_specs_do_not_depend_on_their_neighbours() -> None:
    """Checked one by one, the specs of the library give the programs that they give together."""
    for root in LIBRARY.roots:
        for norm in check(LIBRARY.sources, [root]).norms[root]:
            assert norm.program == PROGRAMS[norm.program.name]


@pytest.mark.parametrize("stage", STAGES)
def test_stages_name_no_place(stage: str, tmp_path: Path) -> None:
    """A spec means the same wherever it lies."""
    text = (ROOT / "specs/switch_norm.norm").read_text()
    shown = []
    for folder in (tmp_path / "here", tmp_path / "or" / "there"):
        folder.mkdir(parents=True)
        (folder / "switch_norm.norm").write_text(text)
        specs = load([str(folder / "switch_norm.norm")])
        shown.append(stage_text(specs.sources, specs.roots[0], stage)[0])
    assert shown[0] == shown[1]
    assert str(tmp_path) not in shown[0]
