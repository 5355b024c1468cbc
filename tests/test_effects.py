"""The effects of norms that are measured: their table, when a claim holds, and quick runs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import PROGRAMS, ROOT
from limited import HANGS

sys.path.insert(0, str(ROOT))
sys.path.insert(0, str(ROOT / "docs" / "demo"))

from measured.effect import Series, difference, parity

from docs.demo.effects import ENTRIES
from docs.effects import RESULTS, effects_by_norm, page

VERDICT = re.compile(r"^(reproduced|not reproduced|undecided): .+ \(.+\)$", re.MULTILINE)


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_is_of_the_library_and_was_measured(name: str) -> None:
    entry = ENTRIES[name]
    assert set(entry.norms) <= set(PROGRAMS)
    assert (ROOT / "docs" / "demo" / "measured" / f"{entry.module}.py").is_file()
    result = (RESULTS / f"{name}.txt").read_text(encoding="utf-8")
    assert result.startswith(f"{entry.title}\n") and VERDICT.search(result)
    assert "±" in result and "source: " in result and "data:   " in result
    assert (RESULTS / f"{name}.png").read_bytes().startswith(b"\x89PNG")


def test_a_number_of_seeds_is_one() -> None:
    command = [sys.executable, "docs/demo/effects.py", "tabular", "--seeds", "0"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2 and "it takes at least 1" in done.stderr


def test_no_result_is_of_nothing() -> None:
    assert {path.stem for path in RESULTS.iterdir()} == set(ENTRIES)


def test_the_page_and_the_gallery_lead_to_each_other() -> None:
    headings = re.findall(r"^## (.+)$", page(), re.MULTILINE)
    assert headings == [entry.title for entry in ENTRIES.values()]
    links = effects_by_norm()
    assert set(links) == {norm for entry in ENTRIES.values() for norm in entry.norms}


def test_a_difference_holds_fails_or_tells_nothing() -> None:
    zeros = [0.0] * 4
    assert difference("", [1.0, 1.1, 0.9, 1.0], zeros).holds is True
    assert difference("", zeros, [1.0, 1.1, 0.9, 1.0]).holds is False
    assert difference("", [1.0, -1.0, 0.9, -1.0], zeros).holds is None
    assert difference("", [1.0], [0.0]).holds is None  # one seed tells nothing
    assert difference("", zeros, zeros).holds is None
    assert difference("a", [1.0, 1.2], [0.0, 0.0], " points").text() == (
        "reproduced: a (+1.1 ± 0.1 points)"
    )


def test_parity_holds_within_a_margin() -> None:
    zeros = [0.0] * 4
    assert parity("", [0.1, -0.1, 0.1, -0.1], zeros, margin=1.0).holds is True
    assert parity("", [2.0, 2.1, 1.9, 2.0], zeros, margin=1.0).holds is False
    assert parity("", [3.0, -3.0, 3.0, -2.0], zeros, margin=1.0).holds is None
    assert parity("", [0.0], [0.0], margin=1.0).holds is None


def test_means_and_errors() -> None:
    series = Series("a", [[1.0, 3.0], [2.0]])
    assert (series.mean(0), series.error(0)) == (2.0, 1.0)
    assert (series.mean(1), series.error(1)) == (2.0, 0.0)


QUICK = ("shifted-scores",)
RUNS = [pytest.param(n, marks=() if n in QUICK else (pytest.mark.extended,)) for n in ENTRIES]


@pytest.mark.needs_torch
@pytest.mark.parametrize("name", RUNS)
def test_an_effect_can_be_measured(name: str, tmp_path: Path) -> None:
    for package in ("sklearn", "matplotlib"):
        pytest.importorskip(package)
    command = [sys.executable, str(ROOT / "docs" / "demo" / "effects.py"), name]
    done = subprocess.run(
        [*command, "--quick", "--seeds", "2", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=HANGS,
    )
    assert done.returncode == 0, done.stderr
    assert VERDICT.search(done.stdout) and (tmp_path / f"{name}.png").is_file()
    committed = (RESULTS / f"{name}.txt").read_text(encoding="utf-8")
    claims = [re.sub(r"\d+", "N", m) for m in re.findall(r": (.+) \(", committed)]
    assert [re.sub(r"\d+", "N", m) for m in re.findall(r": (.+) \(", done.stdout)] == claims
    assert [p.name for p in sorted(tmp_path.iterdir())] == [f"{name}.png", f"{name}.txt"]


def test_an_unknown_effect_is_refused() -> None:
    command = [sys.executable, str(ROOT / "docs" / "demo" / "effects.py"), "nothing"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 2 and "there is no nothing" in done.stderr
