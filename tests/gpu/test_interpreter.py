"""Triton kernels without a GPU, on Triton's interpreter: the tests in `interpreted/`."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from processes import ROOT, Part, parts, passes, without

HERE = Path(__file__).parent / "interpreted"
# Each process takes seconds to begin.
QUICK = {"norms.py": 1, "tiles.py islands.py own.py scans.py": 1}
EXTENDED = {"norms.py": 8, "tiles.py islands.py scans.py": 2}

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)


@pytest.mark.parametrize("part", [*parts(QUICK, "quick"), *parts(EXTENDED, "extended")])
def test_in_the_interpreter(part: Part) -> None:
    passes(part, HERE, without(TRITON_INTERPRET="1", PYTHONPATH=str(ROOT)))
