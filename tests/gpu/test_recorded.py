"""Launches as a GPU would have them, without one: the tests in `recorded/`.

`METANORM_PTX=all` asks for the usual sizes of all norms, and for sm_80 beside sm_90: an hour or
two. `METANORM_PTX_REPORT` names a file for the registers and the stack of each kernel.
"""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import pytest
from processes import ROOT, Part, parts, passes, without

HERE = Path(__file__).parent / "recorded"
QUICK = {"norms.py": 1, "launching.py waiting.py failing.py": 1}
EXTENDED = {"norms.py": 8, "launching.py": 2}

if importlib.util.find_spec("triton") is None:
    pytest.skip("triton is not installed", allow_module_level=True)


@pytest.mark.parametrize("part", [*parts(QUICK, "quick"), *parts(EXTENDED, "extended")])
def test_on_a_recorded_gpu(part: Part) -> None:
    paths = os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "native")))
    variables = ("TRITON_INTERPRET", "METANORM_TRITON_TILE")
    passes(part, HERE, without(*variables, PYTHONPATH=paths))
