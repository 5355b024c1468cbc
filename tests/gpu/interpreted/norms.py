"""Every norm of the library on Triton kernels, against the oracle."""

from __future__ import annotations

import functools
from types import ModuleType

import pytest
from silence import quiet

from metanorm import frontend
from metanorm.driver import compile_specs, module_name
from metanorm.options import Options
from metanorm.runtime import use
from metanorm.targets.live import module_from_files
from metanorm.verify.cases import settings
from metanorm.verify.compare import compare
from metanorm.workspace import load_library

__all__ = ["quiet"]  # a fixture for every test

# Of the standing set; `metanorm verify` holds all of it where TRITON_INTERPRET=1.
SETTINGS = ("train", "eval", "bfloat16")

UNSERVED = "cannot run on Triton kernels: the call has"  # and why torch serves it

LIBRARY = load_library()
NORMS = {
    norm.program.name: (root, norm.program)
    for root, norms in frontend.check(LIBRARY.sources, LIBRARY.roots).norms.items()
    for norm in norms
}


@functools.lru_cache(maxsize=1)
def compiled(root: str) -> tuple[ModuleType, str]:
    """The module of a spec, and the text of its kernels."""
    files = compile_specs(LIBRARY.sources, [root], Options(target="triton")).files
    name = module_name(root)
    return module_from_files(files, name), files.get(f"{name}_triton.py", "")


@pytest.mark.parametrize("name", NORMS)
def test_a_norm_in_the_interpreter(name: str) -> None:
    root, program = NORMS[name]
    module, kernels = compiled(root)
    served = 0
    for number, setting in enumerate(settings(program)):
        if setting.name not in SETTINGS and (served or number > 8):
            continue
        with use("triton"):
            found = compare(program, module, setting)
        if found.outcome.startswith("raised RuntimeError") and UNSERVED in found.outcome:
            continue
        assert found.good, (setting.name, found)
        served += 1
    if not kernels:
        pytest.skip("plain torch alone: `metanorm explain` says why")
    assert served
