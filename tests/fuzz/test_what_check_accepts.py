"""What `check` accepts compiles, for all targets, and no text ends in anything but diagnostics.

Thousands of random specs of every construct, and thousands of damaged ones. A number is a spec, so
that `written(4711)` or `mutant(4711)` is the same one everywhere. The quick tier takes the first
few hundred.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from compiling import Outcome, outcome_of
from mutants import mutant
from written_specs import written

SPECS: dict[str, Callable[[int], str]] = {"written": written, "damaged": mutant}
QUICK = {"written": 120, "damaged": 240}
MANY = {"written": 6_000, "damaged": 12_000}
STEP = 60  # specs of a test, which xdist then shares out


def batches(first: dict[str, int], last: dict[str, int]) -> list[tuple[str, int]]:
    return [(kind, n) for kind in SPECS for n in range(first[kind], last[kind], STEP)]


def demand_right(kind: str, start: int, folder: Path) -> int:
    """Compile one batch, and look at it from every side: compiling is what takes the time.

    How many of it `check` accepts.
    """
    numbers = range(start, start + STEP)
    outcomes = {number: outcome_of(SPECS[kind](number)) for number in numbers}
    faults = [f"{kind}({n}): {outcome.fault}" for n, outcome in outcomes.items() if outcome.fault]
    assert not faults
    demand_defined_names(outcomes, folder)
    accepted = sum(bool(outcome.files) for outcome in outcomes.values())
    assert kind == "damaged" or accepted > STEP / 3
    return accepted


def demand_defined_names(outcomes: dict[int, Outcome], folder: Path) -> None:
    """Names are looked up when a line runs, so that compiling alone does not find a wrong one."""
    for number, outcome in outcomes.items():
        for name, text in outcome.files.items():
            if name.endswith(".py") and "__init__" not in name:
                (folder / f"{number}_{name.replace('/', '_')}").write_text(text)
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F82,E9"]
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[:3000] + done.stderr


@pytest.mark.parametrize(("kind", "start"), batches(dict.fromkeys(SPECS, 0), QUICK))
def test_specs_end_in_diagnostics_or_modules(kind: str, start: int, tmp_path: Path) -> None:
    accepted = demand_right(kind, start, tmp_path)
    assert kind == "damaged" or accepted > STEP / 2  # else little would be tested behind `check`


@pytest.mark.extended
@pytest.mark.parametrize(("kind", "start"), batches(QUICK, MANY))
def test_thousands_of_specs_do(kind: str, start: int, tmp_path: Path) -> None:
    demand_right(kind, start, tmp_path)


def test_a_name_that_is_undefined_is_found(tmp_path: Path) -> None:
    wrong = Outcome({"torch/a.py": "def f():\n    return missing\n"})
    with pytest.raises(AssertionError, match="missing"):
        demand_defined_names({0: wrong}, tmp_path)
