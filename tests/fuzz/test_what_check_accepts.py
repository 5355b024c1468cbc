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
from compiling import fault_of, files_of
from mutants import mutant
from written_specs import written

SPECS: dict[str, Callable[[int], str]] = {"written": written, "damaged": mutant}
QUICK = {"written": 120, "damaged": 240}
MANY = {"written": 6_000, "damaged": 12_000}
STEP = 60  # specs of a test, which xdist then shares out


def batches(first: dict[str, int], last: dict[str, int]) -> list[tuple[str, int]]:
    return [(kind, n) for kind in SPECS for n in range(first[kind], last[kind], STEP)]


def faults(kind: str, start: int) -> list[str]:
    """What is wrong with the compiler, with the number of each spec that shows it."""
    numbers = range(start, start + STEP)
    found = {number: fault_of(SPECS[kind](number)) for number in numbers}
    return [f"{kind}({number}): {fault}" for number, fault in found.items() if fault]


@pytest.mark.parametrize(("kind", "start"), batches(dict.fromkeys(SPECS, 0), QUICK))
def test_specs_end_in_diagnostics_or_modules(kind: str, start: int) -> None:
    assert not faults(kind, start)


@pytest.mark.extended
@pytest.mark.parametrize(("kind", "start"), batches(QUICK, MANY))
def test_thousands_of_specs_do(kind: str, start: int) -> None:
    assert not faults(kind, start)


def test_more_than_half_of_what_is_written_compiles() -> None:
    """Else nothing would be tested behind `check`."""
    compiled = [number for number in range(120) if files_of(written(number)) is not None]
    assert len(compiled) > 60


def test_no_generated_name_is_undefined(tmp_path: Path) -> None:
    """Names are looked up when a line runs, so that compiling alone does not find a wrong one."""
    for kind, make in SPECS.items():
        for number in range(QUICK[kind]):
            for name, text in (files_of(make(number)) or {}).items():
                if name.endswith(".py") and "__init__" not in name:
                    (tmp_path / f"{kind}_{number}_{name.replace('/', '_')}").write_text(text)
    assert len(list(tmp_path.glob("*.py"))) > 50
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "F82,E9"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[:3000] + done.stderr
