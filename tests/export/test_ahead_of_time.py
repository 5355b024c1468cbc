"""Norms that AOTInductor compiles to a package, which is loaded and run without their code."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from calls import calls
from conftest import PROGRAMS, ROOT
from torch import Tensor

sys.path.insert(0, str(ROOT))

from docs.export_routes import AHEAD_OF_TIME
from metanorm import runtime

pytestmark = pytest.mark.filterwarnings("ignore")  # what torch's own compiler warns of is not ours


@pytest.mark.extended
@pytest.mark.parametrize("name", AHEAD_OF_TIME)
def test_packages_compute_the_same(name: str, library: ModuleType, tmp_path: Path) -> None:
    example = calls(PROGRAMS[name], library, False, dtype=torch.float32)
    module = example.module.float()
    program = torch.export.export(module, (), example.first, dynamic_shapes=example.dynamic)
    inductor: Any = torch._inductor
    path = inductor.aoti_compile_and_package(program, package_path=str(tmp_path / "norm.pt2"))
    package = inductor.aoti_load_package(path)
    for arguments in (example.second, example.first):
        with torch.no_grad(), runtime.use("torch"):
            actual, wanted = package(**arguments), module(**arguments)
        if not isinstance(wanted, Tensor):
            actual = tuple(actual)
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


def test_ten_norms_are_named_once() -> None:
    assert len(set(AHEAD_OF_TIME)) == 10
    assert {PROGRAMS[name].target for name in AHEAD_OF_TIME} == {"activation"}
